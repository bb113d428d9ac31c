"""What a paper needs of runs: tables and figures for LaTeX, the methods paragraph, the reproducibility checklist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib

from selfdistill_cli.reports import drawing
from selfdistill_cli.reports.content import Figure, Table
from selfdistill_cli.reports.latex import escape, latex_table, running
from selfdistill_cli.reports.paper.checklist import Answers, checklist
from selfdistill_cli.reports.paper.facts import own_settings
from selfdistill_cli.reports.paper.words import methods_paragraphs
from selfdistill_cli.reports.report import chapters, gathered_beside_sequences
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import Study
from selfdistill_cli.system.files import new_file

PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs,graphicx}
\sloppy
"""
FONTS = {"pdf.fonttype": 42}
"""TrueType: venues refuse the fonts of type 3 that matplotlib writes otherwise."""


def write_paper(runs: Sequence[Run], title: str, folder: Path) -> list[str]:
    """tables/*.tex, figures/*.pdf, methods.tex, checklist.tex and .md, and paper.tex, which shows all of them.

    Returns the names of the files, those of folders by their number. Raises `ValueError` if no run has finished.
    """
    gathered, _ = gathered_beside_sequences(runs)
    studies = gathered.studies
    if not studies:
        raise ValueError("no run has finished")
    titled = [(section.title or chapter.title, section) for chapter in chapters(runs) for section in chapter.sections]
    parts = [part for _, section in titled for part in section.parts]
    tables = [
        *(_with_caption(part, title) for title, section in titled for part in section.parts if isinstance(part, Table)),
        *map(_settings_table, studies),
    ]
    figures = [part for part in parts if isinstance(part, Figure)]
    for table in tables:
        _write(folder / "tables" / f"{table.name}.tex", latex_table(table))
    for figure in figures:
        _draw(figure, folder / "figures" / f"{figure.name}.pdf")
    unfinished = [run for run in runs if not run.finished]
    answers = checklist(studies, unfinished, gathered.alone, gathered.duplicates)
    _write(folder / "methods.tex", _paragraphs(methods_paragraphs(studies)))
    _write(folder / "checklist.tex", _checklist_tex(answers))
    _write(folder / "checklist.md", _checklist_md(answers))
    _write(folder / "paper.tex", _document(title, tables, figures))  # last: what it shows is there
    return [
        "paper.tex",
        "methods.tex",
        "checklist.tex",
        "checklist.md",
        f"tables/ ({len(tables)})",
        f"figures/ ({len(figures)})",
    ]


def _write(path: Path, text: str) -> None:
    with new_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _draw(figure: Figure, path: Path) -> None:
    """As PDF, the same for the same figure: without the time at which it was made."""
    with drawing.in_style(), matplotlib.rc_context(FONTS), new_file(path) as beside:
        drawing.whole(figure.panels).savefig(beside, format="pdf", metadata={"CreationDate": None}, bbox_inches="tight")


def _with_caption(table: Table, title: str) -> Table:
    """On a page a table may stand alone under its section's title; in a paper it floats."""
    return table if table.caption else replace(table, caption=f"{title}.")


def _settings_table(study: Study) -> Table:
    caption = f"Settings of the methods: {study.name}."
    return Table(f"settings-{study.slug}", caption, ["method", "settings"], own_settings(study))


def _paragraphs(paragraphs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"\\paragraph{{{escape(title)}.}} {running(words)}\n" for title, words in paragraphs)


def _checklist_tex(answers: Answers) -> str:
    items = "\n".join(f"\\item \\textbf{{{escape(question)}}} {running(answer)}" for question, answer in answers)
    return f"\\begin{{enumerate}}\n{items}\n\\end{{enumerate}}\n"


def _checklist_md(answers: Answers) -> str:
    return (
        "\n".join(f"{number}. **{question}** {answer}" for number, (question, answer) in enumerate(answers, start=1))
        + "\n"
    )


def _document(title: str, tables: Sequence[Table], figures: Sequence[Figure]) -> str:
    shown = [
        *(f"\\input{{tables/{table.name}}}" for table in tables),
        *(
            f"\\begin{{figure}}[htbp]\n\\centering\n\\includegraphics[width={'.6' if len(figure.panels) == 1 else ''}\\textwidth,height=.8\\textheight,keepaspectratio]"
            f"{{figures/{figure.name}.pdf}}\n\\caption{{{escape(figure.caption)}}}\n\\label{{fig:{figure.name}}}\n\\end{{figure}}"
            for figure in figures
        ),
    ]
    floats = [f"{one}\n\\clearpage" if number % 12 == 11 else one for number, one in enumerate(shown)]  # TeX holds 18
    return "\n".join(
        [
            PREAMBLE.rstrip(), rf"\title{{{escape(title)}}}", r"\date{}", r"\begin{document}", r"\maketitle",
            r"\section{Methods}", r"\input{methods}", r"\section{Results}", *floats, r"\clearpage",
            r"\section{Reproducibility checklist}", r"\input{checklist}", r"\end{document}", "",
        ]
    )  # fmt: skip
