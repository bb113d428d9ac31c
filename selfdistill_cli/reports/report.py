"""A report from runs: its chapters in order, and the files that it is written as."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from selfdistill_cli.reports.content import Chapter, Figure, Section, Table
from selfdistill_cli.reports.differences import Comparison, compare
from selfdistill_cli.reports.latex import latex_table
from selfdistill_cli.reports.naming import identity
from selfdistill_cli.reports.numbers import count
from selfdistill_cli.reports.origins import Chain, sequences
from selfdistill_cli.reports.plates import draw_all
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.sections import (
    across,
    best_of_n,
    calibrated,
    comparison,
    discordance,
    distillation,
    dynamics,
    forgetting,
    gradients,
    learning,
    left_out,
    maps,
    other_tasks,
    over_tasks,
    rounds,
    sensitivity,
    signals,
    verdict,
    writing_quality,
)
from selfdistill_cli.reports.studies import Gathered, gather, told_apart_by_content
from selfdistill_cli.reports.variants import each_once
from selfdistill_cli.reports.writing import csv_table, markdown, page
from selfdistill_cli.system.files import new_file

WHY = (
    sensitivity,
    best_of_n,
    learning,
    distillation,
    dynamics,
    signals,
    discordance,
    gradients,
    maps,
    calibrated,
    writing_quality,
    other_tasks,
)
"""What is asked of each study beside its scores, in order. Each has `section(study)`, which gives None where the runs say
nothing to it."""


def chapters(runs: Sequence[Run]) -> list[Chapter]:
    """The verdict, each study with its scores and the why, and the runs that are in none."""
    runs = told_apart_by_content(runs)
    gathered, chains = gathered_beside_sequences(runs)
    comparisons = [compare(study) for study in gathered.studies]
    first = [verdict.section(comparisons)] if comparisons else []
    return [
        Chapter(
            "What came out",
            _counted(gathered, runs),
            first
            + _present(
                [
                    over_tasks.section(comparisons),
                    across.section(gathered.studies),
                    rounds.section([*gathered.studies, *gathered.alone], runs),
                    forgetting.section(chains),
                ]
            ),
        ),
        *map(_study, comparisons),
        *([Chapter("Other runs", "", left)] if (left := left_out.sections(gathered, runs)) else []),
    ]


def gathered_beside_sequences(runs: Sequence[Run]) -> tuple[Gathered, list[Chain]]:
    """The studies, and the sequences; of these the first stage alone, an ordinary run, is in a study."""
    chains = sequences(runs)
    stages = {_what(run) for chain in chains for run in (chain.start, *chain.stages[1:]) if run is not None}
    return gather(run for run in runs if _what(run) not in stages), chains


def _what(run: Run) -> tuple[str, int]:
    """The same for a run and its copy in another folder."""
    return identity(run.settings), run.seed


def _counted(gathered: Gathered, runs: Sequence[Run]) -> str:
    """`46 runs, 38 in seven studies. The others: one alone, four made for others, three interrupted.`"""
    inside, studies = len(each_once(gathered.studies)), count(len(gathered.studies), "study", "studies")
    among = f"{'all' if inside == len(runs) else inside} in {studies}" if inside else "none of them finished"
    said = f"{count(len(runs), 'run')}, {among}."
    seen, others = {run.path for run in each_once(gathered.studies)}, {}
    for what, found in (
        ("alone", each_once(gathered.alone)),
        ("made for others", [one.run for one in gathered.served]),
        ("found twice", [run for _, run in gathered.duplicates]),
        ("in sequences", [run for run in runs if run.finished]),  # what is left of them
    ):
        others[what] = len({run.path for run in found} - seen)
        seen |= {run.path for run in found}
    others |= Counter(run.status for run in runs if not run.finished)
    told = [count(number, what, what) for what, number in others.items() if number]
    return f"{said} The others: {', '.join(told)}." if told else said


def _study(found: Comparison) -> Chapter:
    """The names of its figures and tables begin with the study's, so that each study has files of its own."""
    made = [comparison.section(found), *_present([why.section(found.study) for why in WHY])]
    return Chapter(found.study.name, "", [_named(one, found.study.slug) for one in made])


def _present(sections: Sequence[Section | None]) -> list[Section]:
    return [one for one in sections if one is not None]


def _named(section: Section, prefix: str) -> Section:
    parts = [p if isinstance(p, str) else dataclasses.replace(p, name=f"{prefix}-{p.name}") for p in section.parts]
    return dataclasses.replace(section, parts=parts)


def write_report(runs: Sequence[Run], title: str, folder: Path, processes: int = 1) -> list[Chapter]:
    """index.html (whole in itself), report.md, figures/*.svg and *.csv, tables/*.csv and *.tex in `folder`.

    `processes`: how many draw; of more than one, a script that is not guarded by `if __name__ == "__main__"` would begin
    anew in each.
    Raises `ValueError` before anything is written if two figures or tables have one name: the later one would take
    the files of the earlier.
    """
    made = chapters(runs)
    parts = [part for chapter in made for section in chapter.sections for part in section.parts]
    _require_own_names([part.name for part in parts if not isinstance(part, str)])
    pictures = draw_all([part for part in parts if isinstance(part, Figure)], folder / "figures", processes)
    for part in parts:
        if isinstance(part, Table):
            for ending, write in (("csv", csv_table), ("tex", latex_table)):
                with new_file(folder / "tables" / f"{part.name}.{ending}") as beside:
                    beside.write_text(write(part), encoding="utf-8")
    with new_file(folder / "report.md") as beside:
        beside.write_text(markdown(title, made), encoding="utf-8")
    with new_file(folder / "index.html") as beside:  # last: it is what people open
        beside.write_text(page(title, made, pictures), encoding="utf-8")
    return made


def in_short(made: Sequence[Chapter]) -> list[str]:
    """A line a study: its name, what came out and what is missing, as the report's first screen has them."""
    tables = [p for chapter in made for one in chapter.sections for p in one.parts if isinstance(p, Table)]
    rows = [[cell.text for cell in row] for table in tables if table.name == verdict.NAME for row in table.cells]
    return [f"{study}: {said}" + f" Missing: {missing}." * bool(missing) for study, said, missing in rows]


def _require_own_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two parts of the report would write the same files: {', '.join(twice)}")
