"""Methods by tasks, and one score over all of them: where several tasks were run alike and scored by one metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from selfdistill_cli.reports.content import Cell, Figure, Section, Table
from selfdistill_cli.reports.differences import PLAIN, Comparison
from selfdistill_cli.reports.naming import identity
from selfdistill_cli.reports.numbers import Scale, scale
from selfdistill_cli.reports.panels import Intervals
from selfdistill_cli.reports.rows import Row
from selfdistill_cli.reports.sections.comparison import dots
from selfdistill_cli.reports.statistics import average
from selfdistill_cli.reports.studies import what_is_constant
from selfdistill_cli.reports.variants import Group

WORDS = """Methods that were run on every one of these tasks, with the same model, schedule and settings, scored by the same \
metric. The average is the unweighted mean over tasks of each seed that all tasks have, ± its standard deviation over \
seeds; the average difference adds the tasks' variances, since their examples are independent."""


HOW = {f"task.{name}" for name in ("train_examples", "label_noise", "selection", "selection_share", "folds")}
"""Settings of a task that say not which task it is, but how it was run: with other ones nothing is averaged."""


def section(comparisons: Sequence[Comparison]) -> Section | None:
    """A table and its figure for each metric, model and length of training with several tasks."""
    alike: dict[str, list[Comparison]] = defaultdict(list)
    for found in comparisons:
        constant = what_is_constant(found.study.groups[0].settings)
        kept = {key: value for key, value in constant.items() if not key.startswith("task.") or key in HOW}
        alike[identity(kept | {"metric": found.study.metric})].append(found)
    parts = [part for number, of in enumerate(alike.values(), 1) for part in _parts(of, number)]
    return Section("Over all tasks", WORDS, parts) if parts else None


def _parts(comparisons: list[Comparison], number: int) -> list[Table | Figure]:
    data = [_data(found) for found in comparisons]
    comparisons = [found for found, own in zip(comparisons, data, strict=True) if data.count(own) == 1]
    tasks = [found.study.task for found in comparisons]
    by_task = {
        found.study.task if tasks.count(found.study.task) == 1 else found.study.name: found for found in comparisons
    }
    if len(by_task) < 2:
        return []
    members = [_by_settings(found) for found in by_task.values()]
    everywhere = [key for key in members[0] if all(key in other for other in members)]
    if len(everywhere) < 2:
        return []
    deviations = [stdev(row.groups[0].scores) for of in members for row in of.values() if len(row.groups[0].runs) > 1]
    shown = scale(comparisons[0].study.metric, deviations)
    rows: list[list[str | Cell]] = []
    for key in everywhere:
        of = [member[key] for member in members]
        scores = [shown.spread(row.groups[0].scores) for row in of]
        rows.append(
            [of[0].name, *scores, _overall([row.groups[0] for row in of], shown), _difference(of, by_task, shown)]
        )
    header = ["method", *by_task, "average", f"average to {PLAIN}"]
    caption = f"{shown.title[:1].upper()}{shown.title[1:]}, mean ± standard deviation over seeds."
    panels = [
        Intervals(task, shown.title, dots(found, [member[key] for key in everywhere], shown))
        for (task, found), member in zip(by_task.items(), members, strict=True)
    ]
    seeds = "The same scores, a task a panel: a small dot is one run, the mark their mean with its 95 % interval."
    return [Table(f"over-tasks-{number}", caption, header, rows), Figure(f"over-tasks-{number}-seeds", seeds, panels)]


def _data(found: Comparison) -> list[Any]:
    """What is learned from: a task that was run in several ways is not several tasks, and none of them is the one."""
    settings = found.study.groups[0].settings
    return [settings.get(f"task.{name}") for name in ("name", "path", "validation_path")]


def _by_settings(found: Comparison) -> dict[str, Row]:
    """Rows that stand for one setting, which was not chosen, by what is not the task's."""
    return {
        identity({key: value for key, value in row.group.settings.items() if not key.startswith("task.")}): row
        for row in found.rows
        if row.group is not None and not row.chosen_of
    }


def _overall(groups: Sequence[Group], shown: Scale) -> str:
    seeds = sorted(set.intersection(*(set(group.runs) for group in groups)))
    means = [fmean(float(group.runs[seed].results["score"]) for group in groups) for seed in seeds]
    return shown.spread(means) if means else "–"


def _difference(of: Sequence[Row], by_task: dict[str, Comparison], shown: Scale) -> str:
    """Over all tasks or not at all; of one seed without an interval."""
    differences = [c.difference for row, found in zip(of, by_task.values(), strict=True) if (c := found.of(row, PLAIN))]
    if len(differences) < len(of):
        return "–"
    mean = average(differences)
    said = shown.signed(mean.estimate)
    return f"{said} ({shown.interval(*mean.interval)})" if mean.seeds > 1 else f"{said} (one seed)"
