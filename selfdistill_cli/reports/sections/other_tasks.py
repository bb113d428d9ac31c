"""Generalisation: scores on other tasks' validation sets, without training on them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from selfdistill_cli.reports.content import Cell, Section, Table, file_name, spread
from selfdistill_cli.reports.differences import verdict
from selfdistill_cli.reports.naming import identity, told_apart
from selfdistill_cli.reports.runs import Run, Settings, flat
from selfdistill_cli.reports.scoring import Scored, scored
from selfdistill_cli.reports.statistics import LEVEL, Difference, holm, paired_difference, resampled
from selfdistill_cli.reports.variants import Group, Study

WORDS = f"""Finished runs scored on the validation sets of other tasks (eval_tasks=[…], or sdevaluate), labels put together \
by label_map where they differ. Differences to vanilla as in the first section, paired by example and seed, Holm-corrected \
over the whole table. Scores on other examples, or by other settings, have a column of their own (fingerprint and settings in \
evaluations/*.json). Bold: better, with a corrected p below {LEVEL}; ▼: worse, likewise significant."""

Place = tuple[str, str]
"""The variant, and the name of what it was scored on."""


@dataclass(frozen=True)
class Other:
    """Another task as some runs were scored on it: the same examples by the same settings."""

    task: str
    name: str
    """The task, and what sets this apart where runs were scored on several of its name."""
    runs: dict[Path, Run]
    """Those that were, by their directory."""

    @property
    def metric(self) -> str:
        """What they are scored by."""
        return str(next(iter(self.runs.values())).other_tasks[self.task]["metric"])

    def scores(self, group: Group) -> list[float]:
        """Of a group's runs."""
        return [run.other_tasks[self.task]["score"] for run in group.runs.values() if run.path in self.runs]


def section(study: Study) -> Section | None:
    """A table, if any run was scored on other tasks."""
    others = _others(study)
    if not others:
        return None
    found = {(variant, other.name): d for other in others for variant, d in _compare(study, other).items()}
    tested = {place: difference.p for place, difference in found.items() if difference.seeds > 1}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return Section("Does it carry over to other data?", WORDS, [_table(study, others, found, corrected)])


def _others(study: Study) -> list[Other]:
    """By name of the task, and by what was read and how.

    A score of a version that did not record how stands beside the others on the same data, as long as these agree.
    """
    found: dict[str, dict[Path, Run]] = defaultdict(dict)
    read: dict[str, tuple[str, Settings]] = {}
    scored_on = [(run, task, one) for run in study.runs for task, one in run.other_tasks.items()]
    known: dict[tuple[str, str], dict[str, Settings]] = defaultdict(dict)
    for _, task, one in scored_on:
        if one.get("settings"):
            known[task, str(one.get("fingerprint"))][identity(one["settings"])] = one["settings"]
    for run, task, one in scored_on:
        data = str(one.get("fingerprint"))
        recorded = list(known[task, data].values())
        settings = one.get("settings") or (recorded[0] if len(recorded) == 1 else {})
        how = {"data": data[:8], "metric": one["metric"]} | flat(settings, "settings")
        key = identity({"task": task, "read": data} | how)
        found[key][run.path], read[key] = run, (task, how)
    keys = sorted(found, key=lambda key: read[key][0])
    tasks, parts = [read[key][0] for key in keys], [read[key][1] for key in keys]
    return [
        Other(task, name, found[key]) for task, name, key in zip(tasks, told_apart(tasks, parts), keys, strict=True)
    ]


def _compare(study: Study, other: Other) -> dict[str, Difference]:
    """Each variant's difference to vanilla on the other task's validation set, where both were scored on it."""
    baselines = {g.variant: b.variant for g in study.groups if (b := study.baseline(g)) is not None and b is not g}
    ready = {
        (group.variant, seed): one
        for group in study.groups
        if group.variant in baselines or group.variant in baselines.values()
        for seed, run in group.runs.items()
        if run.path in other.runs and (one := _scored(run, other)) is not None
    }
    drawn = resampled(ready)
    samples = {
        group.variant: {seed: one for (variant, seed), one in drawn.items() if variant == group.variant}
        for group in study.groups
    }
    differences = {mine: paired_difference(samples[mine], samples[theirs]) for mine, theirs in baselines.items()}
    return {variant: difference for variant, difference in differences.items() if difference is not None}


def _scored(run: Run, other: Other) -> Scored | None:
    return scored(run.path / "evaluations" / f"{other.task}.parquet", other.metric)


def _table(study: Study, others: list[Other], found: dict[Place, Difference], corrected: dict[Place, float]) -> Table:
    rows: list[list[str | Cell]] = []
    for group in study.groups:
        cells: list[str | Cell] = [group.variant, f"{fmean(group.scores):.4f}"]
        for other in others:
            scores = other.scores(group)
            place = group.variant, other.name
            difference = found.get(place)
            said = f" [{difference.estimate:+.4f}]" if difference else ""
            mark = verdict(difference, corrected.get(place), other.metric) if difference else ""
            cells.append(Cell(f"{spread(scores)} ({len(scores)}){said}" if scores else "– (not evaluated)", mark))
        rows.append(cells)
    header = ["method", f"{study.task} itself", *[f"{other.name}, {other.metric}" for other in others]]
    caption = f"Trained on {study.task}: mean ± standard deviation (seeds) [difference to vanilla]."
    return Table(file_name("other-tasks", study.task), caption, header, rows)
