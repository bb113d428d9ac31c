"""Which runs belong together: what they are is the same but for the seed. Nothing else is ever averaged.

Runs are gathered by their settings. Names are made afterwards, from what sets the groups apart, and are unique.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from selfdistill_cli.reports.runs import Run, Settings

BASELINE = "vanilla"
SAME_COMPUTE = 0.05
"""Two groups whose forwarded examples differ by at most this share count as equal in compute."""


@dataclass(frozen=True)
class Group:
    """Runs of one variant (model, method, schedule, number of processes) on one task, which differ in the seed alone."""

    task: str
    variant: str
    runs: dict[int, Run]
    """By seed."""

    @property
    def first(self) -> Run:
        """Any of them: for what they share."""
        return next(iter(self.runs.values()))

    @property
    def settings(self) -> Settings:
        """What they share."""
        return self.first.settings

    @property
    def scores(self) -> list[float]:
        """Of the main metric, in the order of the seeds."""
        return [self.runs[seed].results["score"] for seed in sorted(self.runs)]

    @property
    def forwarded(self) -> float:
        """Examples that a run forwards in training, mean over seeds."""
        return fmean(run.results["examples_forwarded"] for run in self.runs.values())


@dataclass(frozen=True)
class Study:
    """All finished runs of a report, in groups; `tasks` and `variants` in the order in which they are shown."""

    groups: list[Group]
    tasks: list[str]
    variants: list[str]
    duplicates: list[tuple[Run, Run]]
    """Runs of the same settings and seed: the one that counts, and one that does not."""

    def group(self, task: str, variant: str) -> Group | None:
        """The runs of a cell, if there are any."""
        return next((g for g in self.groups if g.task == task and g.variant == variant), None)

    def of_task(self, task: str) -> list[Group]:
        """The groups of a task, in the order of the variants."""
        order = {name: place for place, name in enumerate(self.variants)}
        return sorted((g for g in self.groups if g.task == task), key=lambda g: order[g.variant])

    def baseline(self, group: Group) -> Group | None:
        """Vanilla with one pass under the same model, task and schedule."""
        return next((g for g in self._vanilla_beside(group) if g.settings.get("method.passes", 1) == 1), None)

    def equal_compute_baseline(self, group: Group) -> Group | None:
        """Vanilla under the same model, task and schedule that forwards as many examples, within SAME_COMPUTE."""

        def distance(other: Group) -> float:
            return abs(other.forwarded - group.forwarded)

        nearest = min(self._vanilla_beside(group), key=distance, default=None)
        return nearest if nearest and distance(nearest) <= SAME_COMPUTE * group.forwarded else None

    def _vanilla_beside(self, group: Group) -> list[Group]:
        wanted = but_the_method(group.settings)
        return [
            other
            for other in self.of_task(group.task)
            if other.settings["method.name"] == BASELINE and but_the_method(other.settings) == wanted
        ]


def has(group: Group, kind: str, column: str) -> bool:
    """Whether any run's records of a kind have this column: what a method records decides what is shown of it."""
    return any(column in row for run in group.runs.values() for row in run.rows.get(kind, []))


def but_the_method(settings: Settings) -> Settings:
    """Model, task, schedule and number of processes."""
    return {key: value for key, value in settings.items() if not key.startswith("method.")}


def study(runs: Iterable[Run]) -> Study:
    """Gather the finished runs by what they are, and name tasks and variants by what sets them apart."""
    gathered: dict[str, dict[int, Run]] = defaultdict(dict)
    duplicates = []
    for run in (run for run in runs if run.finished):
        of_seed = gathered[identity(run.settings)]
        if run.seed in of_seed:
            duplicates.append((of_seed[run.seed], run))
        else:
            of_seed[run.seed] = run
    members = [dict(sorted(of_seed.items())) for of_seed in gathered.values()]
    settings = [next(iter(of_seed.values())).settings for of_seed in members]
    tasks = names([_task_part(one) for one in settings], "task.name")
    variants = names([_variant_part(one) for one in settings], "method.name")
    groups = [Group(task, variant, of_seed) for task, variant, of_seed in zip(tasks, variants, members, strict=True)]

    def order(group: Group) -> tuple[bool, list[tuple[int, float, str]]]:
        return group.settings["method.name"] != BASELINE, _sortable(group.variant)

    return Study(
        groups,
        sorted({g.task for g in groups}, key=_sortable),
        list(dict.fromkeys(g.variant for g in sorted(groups, key=order))),
        duplicates,
    )


def _sortable(name: str) -> list[tuple[int, float, str]]:
    """By words, numbers by size."""
    found: list[tuple[int, float, str]] = []
    for word in name.replace("=", " ").split():
        try:
            found.append((0, float(word.strip("(),")), ""))
        except ValueError:
            found.append((1, 0.0, word))
    return found


def _task_part(settings: Settings) -> Settings:
    return {key: value for key, value in settings.items() if key.startswith("task.")}


def _variant_part(settings: Settings) -> Settings:
    return {key: value for key, value in settings.items() if not key.startswith("task.")}


def identity(settings: Settings) -> str:
    """The same for equal settings, in whatever order."""
    return json.dumps(settings, sort_keys=True, default=str)


_ABSENT = "(no such setting)"


def names(parts: Sequence[Settings], own: str) -> list[str]:
    """A name for each part: the setting `own`, and the settings in which others of that name differ from it.

    Equal parts have equal names, different parts different ones. Where there are several models, every name says
    its own, and leaves out what follows from the model.
    """
    distinct = {identity(part): part for part in parts}
    of_model: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for key in {key for part in distinct.values() for key in part if key.startswith("model.")}:
        for part in distinct.values():
            of_model[key][str(part.get("model.name"))].add(identity({key: part.get(key, _ABSENT)}))
    several_models = len({str(part.get("model.name")) for part in distinct.values()}) > 1

    def follows_from_model(key: str) -> bool:
        return key in of_model and key != "model.name" and all(len(values) == 1 for values in of_model[key].values())

    found: dict[str, str] = {}
    for key, part in distinct.items():
        rivals = [other for other in distinct.values() if other[own] == part[own]]
        differing = {k for rival in rivals for k in part if rival.get(k, _ABSENT) != part[k]} - {own}
        if several_models:
            differing = {k for k in differing if not follows_from_model(k)} | {"model.name"}
        # The model first, then the method's own settings, then the rest.
        ordered = sorted(differing, key=lambda k: (k != "model.name", not k.startswith("method."), k))
        said = ", ".join(f"{short_key(k)}={short_values([r.get(k) for r in rivals])[str(part[k])]}" for k in ordered)
        found[key] = f"{part[own]} ({said})" if said else str(part[own])
    taken: dict[str, int] = defaultdict(int)
    for key in sorted(found):  # only where values of two keys read alike
        taken[found[key]] += 1
        found[key] += f" #{taken[found[key]]}" if taken[found[key]] > 1 else ""
    return [found[identity(part)] for part in parts]


def short_key(key: str) -> str:
    """`method.tau` is called `tau`, `model.lora.rank` `lora.rank`, `model.name` `model`."""
    return "model" if key == "model.name" else key.split(".", 1)[-1].removesuffix("_")


def short_values(values: Iterable[Any]) -> dict[str, str]:
    """A setting's values in words, by `str` of them: of long paths as much of the end as tells them apart."""
    words = sorted({str(value) for value in values})
    parts = {word: word.split("/") for word in words if "/" in word and len(word) > 24}
    kept = next(
        (n for n in range(1, max(map(len, parts.values()), default=1)) if len({tuple(p[-n:]) for p in parts.values()}) == len(parts)),
        None,
    )  # fmt: skip
    shortened = {word: f"…/{'/'.join(p[-kept:])}" for word, p in parts.items() if kept and len(p) > kept}
    return {word: shortened.get(word, "none" if word == "None" else word) for word in words}
