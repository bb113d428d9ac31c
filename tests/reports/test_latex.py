"""LaTeX: tables that compile, with the points below each other, whatever signs a user's names have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from selfdistill_cli.reports.content import Cell, Table
from selfdistill_cli.reports.latex import escape, latex_table

PDFLATEX = shutil.which("pdflatex")
HEAD = r"\documentclass{article}\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
NASTY = 'a & b % c # d _ e { f } g $ h ~ i ^ j \\ k < l > m | n " o ± − – … × · ▼ → τ α λ δ é Ł 中 😀 \x07 z'

SCORES = Table(
    "scores",
    "Scores of α_i, 100 %.",
    ["method", "a task", "difference", "examples", "mixed"],
    [
        ["vanilla", "73.3 ± 1.8 (3)", "–", "1,200", "12"],
        ["dynsdpb (τ=2)", Cell("7.25 ± 11.8 (3)", "better"), "−0.9 to 2.1", "600", "no run"],
        ["one seed", Cell("-71.1", "worse"), "0.95 to 10.1", "0", "yes"],
    ],
)


def rows_of(latex: str) -> list[list[str]]:
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].splitlines()[1:]
    return [line.removesuffix(r" \\").split(" & ") for line in body]


def as_wide_as(cell: str) -> str:
    """A cell as it is printed, with what is only room: every sign in its place."""
    cell = re.sub(r"\\textbf\{([^}]*)\}", r"\1", cell)
    cell = re.sub(r"\\phantom\{((?:[^{}]|\{[^}]*\})*)\}", r"\1", cell)
    return cell.replace("$-$", "−").replace(r"$\pm$", "±")


def test_points_stand_below_each_other() -> None:
    rows = rows_of(latex_table(SCORES))
    scores = [as_wide_as(row[1]).removesuffix(r" $\downarrow$") for row in rows]
    assert [cell.index(".") for cell in scores] == [3, 3, 3]
    assert len({len(cell.replace(r" $\downarrow$", "")) for cell in scores}) == 1
    differences = [as_wide_as(row[2]) for row in rows[1:]]
    assert {cell.index(".") for cell in differences} == {2}
    assert {cell.rindex(".") for cell in differences} == {len("−0.90 to 10")}
    assert [as_wide_as(row[3]) for row in rows] == ["1,200", "00600", "00000"]


def test_what_is_better_is_bold_and_what_says_nothing_or_mixes_texts_is_left_as_it_is() -> None:
    latex = latex_table(SCORES)
    rows = rows_of(latex)
    assert [re.findall(r"\\textbf\{(.*?)\}", row[1]) for row in rows] == [[], ["7.25"], []]
    assert r"\downarrow" in rows[2][1]
    assert rows[0][2] == "--"
    assert [row[4] for row in rows] == ["12", "no run", "yes"]
    assert r"\begin{tabular}{lcccl}" in latex
    for part in (r"\centering", r"\caption{Scores of $\alpha$\_i, 100 \%.}", r"\label{tab:scores}", r"\toprule"):
        assert part in latex


def test_texts_with_numbers_in_them_are_texts_and_long_ones_are_broken_into_lines() -> None:
    settings = [
        f"tau={tau}, alpha=1, epochs=2, warmup=1, seeds=3, and so on to the end of a long line" for tau in (1, 22)
    ]
    latex = latex_table(Table("settings", "", ["method", "settings"], [["a", settings[0]], ["b", settings[1]]]))
    assert r"\begin{tabular}{lp{.5\textwidth}}" in latex
    assert "phantom" not in latex


def test_every_sign_is_one_that_tex_prints() -> None:
    printed = escape(NASTY)
    assert printed.isascii() or set(filter(lambda sign: not sign.isascii(), printed)) == {"é", "Ł"}
    assert r"\texttt{U+4E2D}" in printed
    plain = re.sub(r"\\[a-zA-Z]+(\{\})?|\\.|\$[^$]*\$", "", printed)
    assert not set(plain) & set("&%#_$^~\\<>|")


def test_no_row_begins_with_what_the_end_of_the_one_before_takes_as_its_own() -> None:
    latex = latex_table(Table("rows", "", ["[a]", "b"], [["[2] file.csv", "x"], ["* starred", "y"]]))
    head, *rows = (line for line in latex.splitlines() if " & " in line)
    assert [line[:3] for line in (head, *rows)] == ["{[}", "{[}", "{*}"]


@pytest.mark.skipif(PDFLATEX is None, reason="needs pdflatex")
def test_tables_compile(tmp_path: Path) -> None:
    nasty = Table("nasty", NASTY, [NASTY[:20], "n"], [[NASTY[i : i + 20], f"{i}.5"] for i in range(0, 80, 20)])
    wide = Table("wide", "", ["x" * 15] * 12, [["y" * 15] * 12])
    long = Table("long", "", ["a", "b"], [["x", "many words " * 20]])
    body = "\n".join(latex_table(table) for table in (SCORES, nasty, wide, long))
    (tmp_path / "t.tex").write_text(f"{HEAD}\\begin{{document}}\n{body}\\end{{document}}\n", encoding="utf-8")
    ended = subprocess.run(
        [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    said = ended.stdout.decode(errors="replace")
    assert ended.returncode == 0, said[-1500:]
    assert "Overfull" not in said[said.index("(./t.tex") :]  # no table is wider
