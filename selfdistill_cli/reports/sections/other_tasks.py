"""Generalisation: scores on other tasks' validation sets, without training on them."""

from __future__ import annotations

from statistics import fmean

from selfdistill_cli.reports.content import Cell, Section, Table, file_name, spread
from selfdistill_cli.reports.differences import verdict
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.scoring import Scored, scored
from selfdistill_cli.reports.statistics import LEVEL, Difference, holm, paired_difference, resampled
from selfdistill_cli.reports.variants import Study

WORDS = f"""Finished runs scored on the validation sets of other tasks (eval_tasks=[…], or sdevaluate), labels put together \
by label_map where they differ. Differences to vanilla as in the first section, paired by example and seed, Holm-corrected \
over the whole table. Bold: better, with a corrected p below {LEVEL}; ▼: worse, likewise significant."""

Place = tuple[str, str]
"""The variant, and the other task."""


def section(study: Study) -> Section | None:
    """A table, if any run was scored on other tasks."""
    others = sorted({name for run in study.runs for name in run.other_tasks})
    if not others:
        return None
    found = {(variant, other): difference for other in others for variant, difference in _compare(study, other).items()}
    tested = {place: difference.p for place, difference in found.items() if difference.seeds > 1}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return Section("Does it carry over to other data?", WORDS, [_table(study, others, found, corrected)])


def _compare(study: Study, other: str) -> dict[str, Difference]:
    """Each variant's difference to vanilla on the other task's validation set, where both were scored on it."""
    baselines = {g.variant: b.variant for g in study.groups if (b := study.baseline(g)) is not None and b is not g}
    ready = {
        (group.variant, seed): one
        for group in study.groups
        if group.variant in baselines or group.variant in baselines.values()
        for seed, run in group.runs.items()
        if other in run.other_tasks and (one := _scored(run, other)) is not None
    }
    drawn = resampled(ready)
    samples = {
        group.variant: {seed: one for (variant, seed), one in drawn.items() if variant == group.variant}
        for group in study.groups
    }
    differences = {mine: paired_difference(samples[mine], samples[theirs]) for mine, theirs in baselines.items()}
    return {variant: difference for variant, difference in differences.items() if difference is not None}


def _scored(run: Run, other: str) -> Scored | None:
    return scored(run.path / "evaluations" / f"{other}.parquet", str(run.other_tasks[other]["metric"]))


def _table(study: Study, others: list[str], found: dict[Place, Difference], corrected: dict[Place, float]) -> Table:
    metrics = {other: _metric(study, other) for other in others}
    rows: list[list[str | Cell]] = []
    for group in study.groups:
        cells: list[str | Cell] = [group.variant, f"{fmean(group.scores):.4f}"]
        for other in others:
            scores = [run.other_tasks[other]["score"] for run in group.runs.values() if other in run.other_tasks]
            place = group.variant, other
            difference = found.get(place)
            said = f" [{difference.estimate:+.4f}]" if difference else ""
            mark = verdict(difference, corrected.get(place), metrics[other]) if difference else ""
            cells.append(Cell(f"{spread(scores)} ({len(scores)}){said}" if scores else "– (not evaluated)", mark))
        rows.append(cells)
    header = ["method", f"{study.task} itself", *[f"{other}, {metrics[other]}" for other in others]]
    caption = f"Trained on {study.task}: mean ± standard deviation (seeds) [difference to vanilla]."
    return Table(file_name("other-tasks", study.task), caption, header, rows)


def _metric(study: Study, other: str) -> str:
    return str(next(run.other_tasks[other]["metric"] for run in study.runs if other in run.other_tasks))
