"""A report from runs: its chapters in order, and the files that it is written as."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from selfdistill_cli.reports.content import Chapter, Figure, Section, Table
from selfdistill_cli.reports.latex import latex_table
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
    gradients,
    learning,
    maps,
    other_tasks,
    overview,
    sensitivity,
    signals,
)
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.reports.variants import Study
from selfdistill_cli.reports.writing import csv_table, markdown, page
from selfdistill_cli.system.files import new_file

OF_A_STUDY = (
    comparison,
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
    other_tasks,
)
"""What is asked of each study, in order. Each has `section(study)`, which gives None where the runs say nothing to it."""


def chapters(runs: Sequence[Run]) -> list[Chapter]:
    """All that these runs say something to: over all studies, study by study, and what is left."""
    gathered = gather(runs)
    made = [
        Chapter("All studies", "", _present([across.section(gathered.studies)])),
        *map(_study, gathered.studies),
        Chapter("Runs", "", [overview.section(gathered, runs)]),
    ]
    return [one for one in made if one.sections]


def _study(study: Study) -> Chapter:
    """The names of its figures and tables begin with the study's, so that each study has files of its own."""
    return Chapter(
        study.name, "", [_named(one, study.slug) for one in _present([s.section(study) for s in OF_A_STUDY])]
    )


def _present(sections: Sequence[Section | None]) -> list[Section]:
    return [one for one in sections if one is not None]


def _named(section: Section, prefix: str) -> Section:
    parts = [p if isinstance(p, str) else dataclasses.replace(p, name=f"{prefix}-{p.name}") for p in section.parts]
    return dataclasses.replace(section, parts=parts)


def write_report(runs: Sequence[Run], title: str, folder: Path) -> list[Chapter]:
    """index.html (whole in itself), report.md, figures/*.svg and *.csv, tables/*.csv and *.tex in `folder`.

    Raises `ValueError` before anything is written if two figures or tables have one name: the later one would take
    the files of the earlier.
    """
    made = chapters(runs)
    parts = [part for chapter in made for section in chapter.sections for part in section.parts]
    _require_own_names([part.name for part in parts if not isinstance(part, str)])
    pictures = draw_all([part for part in parts if isinstance(part, Figure)], folder / "figures")
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


def _require_own_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two parts of the report would write the same files: {', '.join(twice)}")
