"""Generalisation: scores on other tasks' validation sets, without training on them."""

from __future__ import annotations

from statistics import fmean

from selfdistill_cli.reports.content import Cell, Section, Table, spread
from selfdistill_cli.reports.scoring import Scored, scored
from selfdistill_cli.reports.statistics import LEVEL, Difference, holm, paired_difference
from selfdistill_cli.reports.variants import Group, Study

WORDS = f"""Finished runs scored on the validation sets of other tasks (eval_tasks=[…], or sdevaluate), labels put together \
by label_map where they differ. Differences to vanilla as in the first section, paired by example and seed, Holm-corrected \
over all tables of this section; bold: corrected p below {LEVEL}."""


def section(study: Study) -> Section | None:
    """A table for each task that was trained on."""
    trained = [task for task in study.tasks if any(g.first.elsewhere for g in study.of_task(task))]
    found = {
        (task, g.variant, other): _difference(study, g, other)
        for task in trained
        for g in study.of_task(task)
        for other in _others(study, task)
    }
    tested = [key for key, difference in found.items() if difference and difference.seeds > 1]
    corrected = dict(zip(tested, holm([found[key].p for key in tested if found[key]]), strict=True))  # type: ignore[union-attr]
    tables = [_table(study, task, found, corrected) for task in trained]
    return Section("Does it carry over to other data?", WORDS, tables) if tables else None


def _others(study: Study, task: str) -> list[str]:
    return sorted({name for group in study.of_task(task) for run in group.runs.values() for name in run.elsewhere})


def _table(
    study: Study,
    task: str,
    found: dict[tuple[str, str, str], Difference | None],
    corrected: dict[tuple[str, str, str], float],
) -> Table:
    others = _others(study, task)
    rows: list[list[str | Cell]] = []
    for group in study.of_task(task):
        cells: list[str | Cell] = [group.variant, f"{fmean(group.scores):.4f}"]
        for other in others:
            scores = [run.elsewhere[other]["score"] for run in group.runs.values() if other in run.elsewhere]
            key = task, group.variant, other
            difference = found[key]
            said = f" [{difference.estimate:+.4f}]" if difference else ""
            bold = corrected.get(key, 1.0) < LEVEL
            cells.append(Cell(f"{spread(scores)} ({len(scores)}){said}" if scores else "– (not evaluated)", bold))
        rows.append(cells)
    metrics = {other: _metric(study, task, other) for other in others}
    header = ["method", f"{task} itself", *[f"{other}, {metrics[other]}" for other in others]]
    caption = f"Trained on {task}: mean ± standard deviation (seeds) [difference to vanilla]."
    return Table(f"elsewhere-{task.split()[0]}-{len(others)}", caption, header, rows)


def _metric(study: Study, task: str, other: str) -> str:
    runs = (run for group in study.of_task(task) for run in group.runs.values())
    return str(next(run.elsewhere[other]["metric"] for run in runs if other in run.elsewhere))


def _difference(study: Study, group: Group, other: str) -> Difference | None:
    vanilla = study.baseline(group, matched=False)
    if vanilla is None or vanilla is group:
        return None
    mine, theirs = _scored(group, other), _scored(vanilla, other)
    return paired_difference(mine, theirs) if mine and theirs else None


def _scored(group: Group, other: str) -> dict[int, Scored]:
    made = {
        seed: scored(run.path / "evaluations" / f"{other}.parquet", str(run.elsewhere[other]["metric"]))
        for seed, run in group.runs.items()
        if other in run.elsewhere
    }
    return {seed: one for seed, one in made.items() if one is not None}
