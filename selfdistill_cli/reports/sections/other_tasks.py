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
over all tables of this section. Bold: better, with a corrected p below {LEVEL}; ▼: worse, likewise significant."""

Place = tuple[str, str, str]
"""The task that was trained on, the variant, the other task."""


def section(study: Study) -> Section | None:
    """A table for each task that was trained on."""
    trained = [task for task in study.tasks if _others(study, task)]
    found = {
        (task, variant, other): difference
        for task in trained
        for other in _others(study, task)
        for variant, difference in _compare(study, task, other).items()
    }
    tested = {place: difference.p for place, difference in found.items() if difference.seeds > 1}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    tables = [_table(study, task, found, corrected) for task in trained]
    return Section("Does it carry over to other data?", WORDS, tables) if tables else None


def _others(study: Study, task: str) -> list[str]:
    return sorted({name for group in study.of_task(task) for run in group.runs.values() for name in run.other_tasks})


def _compare(study: Study, task: str, other: str) -> dict[str, Difference]:
    """Each variant's difference to vanilla on the other task's validation set, where both were scored on it."""
    groups = study.of_task(task)
    baselines = {g.variant: b.variant for g in groups if (b := study.baseline(g)) is not None and b is not g}
    ready = {
        (group.variant, seed): one
        for group in groups
        if group.variant in baselines or group.variant in baselines.values()
        for seed, run in group.runs.items()
        if other in run.other_tasks and (one := _scored(run, other)) is not None
    }
    drawn = resampled(ready)
    samples = {
        group.variant: {seed: one for (variant, seed), one in drawn.items() if variant == group.variant}
        for group in groups
    }
    differences = {mine: paired_difference(samples[mine], samples[theirs]) for mine, theirs in baselines.items()}
    return {variant: difference for variant, difference in differences.items() if difference is not None}


def _scored(run: Run, other: str) -> Scored | None:
    return scored(run.path / "evaluations" / f"{other}.parquet", str(run.other_tasks[other]["metric"]))


def _table(study: Study, task: str, found: dict[Place, Difference], corrected: dict[Place, float]) -> Table:
    others = _others(study, task)
    metrics = {other: _metric(study, task, other) for other in others}
    rows: list[list[str | Cell]] = []
    for group in study.of_task(task):
        cells: list[str | Cell] = [group.variant, f"{fmean(group.scores):.4f}"]
        for other in others:
            scores = [run.other_tasks[other]["score"] for run in group.runs.values() if other in run.other_tasks]
            place = task, group.variant, other
            difference = found.get(place)
            said = f" [{difference.estimate:+.4f}]" if difference else ""
            mark = verdict(difference, corrected.get(place), metrics[other]) if difference else ""
            cells.append(Cell(f"{spread(scores)} ({len(scores)}){said}" if scores else "– (not evaluated)", mark))
        rows.append(cells)
    header = ["method", f"{task} itself", *[f"{other}, {metrics[other]}" for other in others]]
    caption = f"Trained on {task}: mean ± standard deviation (seeds) [difference to vanilla]."
    return Table(file_name("other-tasks", task), caption, header, rows)


def _metric(study: Study, task: str, other: str) -> str:
    runs = (run for group in study.of_task(task) for run in group.runs.values())
    return str(next(run.other_tasks[other]["metric"] for run in runs if other in run.other_tasks))
