"""A report from runs: its sections in order, and the files that it is written as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from selfdistill_cli.reports import drawing
from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.sections import (
    calibrated,
    comparison,
    dynamics,
    gradients,
    maps,
    other_tasks,
    overview,
    sensitivity,
    signals,
)
from selfdistill_cli.reports.variants import study
from selfdistill_cli.reports.writing import csv_table, latex_table, markdown, page
from selfdistill_cli.system.files import new_file


def sections(runs: Sequence[Run]) -> list[Section]:
    """All that these runs say something to."""
    grouped = study(runs)
    made = [
        overview.section(grouped, runs),
        *(
            part.section(grouped)
            for part in (comparison, sensitivity, dynamics, signals, gradients, maps, calibrated, other_tasks)
        ),
    ]
    return [one for one in made if one is not None]


def write_report(runs: Sequence[Run], title: str, folder: Path) -> list[Section]:
    """index.html (whole in itself), report.md, figures/*.png and *.svg, tables/*.csv and *.tex in `folder`.

    Raises `ValueError` before anything is written if two figures or tables have one name: the later one would take
    the files of the earlier.
    """
    made = sections(runs)
    _require_own_names(made)
    pictures: dict[str, str] = {}
    for part in (part for one in made for part in one.parts):
        if isinstance(part, Figure):
            pictures[part.name] = _drawn(part, folder / "figures")
        elif isinstance(part, Table):
            for ending, write in (("csv", csv_table), ("tex", latex_table)):
                with new_file(folder / "tables" / f"{part.name}.{ending}") as beside:
                    beside.write_text(write(part), encoding="utf-8")
    with new_file(folder / "report.md") as beside:
        beside.write_text(markdown(title, made), encoding="utf-8")
    with new_file(folder / "index.html") as beside:  # last: it is what people open
        beside.write_text(page(title, made, pictures), encoding="utf-8")
    return made


def _require_own_names(made: Sequence[Section]) -> None:
    names = Counter(part.name for one in made for part in one.parts if not isinstance(part, str))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"two parts of the report would write the same files: {', '.join(twice)}")


def _drawn(figure: Figure, folder: Path) -> str:
    """The figure for the page; beside it, as files."""
    with drawing.in_style():
        drawn = figure.draw()
        svg = drawing.as_svg(drawn, figure.name)
        with new_file(folder / f"{figure.name}.svg") as beside:
            beside.write_text(svg, encoding="utf-8")
        with new_file(folder / f"{figure.name}.png") as beside:
            beside.write_bytes(drawing.as_png(drawn))
        return drawing.on_a_page(svg)
