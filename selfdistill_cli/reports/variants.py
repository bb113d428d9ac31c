"""Which runs belong together: the same settings but for the seed. Nothing else is ever averaged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from selfdistill_cli.reports.runs import Run, Settings


@dataclass(frozen=True)
class Group:
    """Runs of one variant (model, method, schedule) on one task, which differ in the seed alone."""

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


@dataclass(frozen=True)
class Study:
    """All finished runs of a report, in groups; `tasks` and `variants` in the order in which they are shown."""

    groups: list[Group]
    tasks: list[str]
    variants: list[str]

    def group(self, task: str, variant: str) -> Group | None:
        """The runs of a cell, if there are any."""
        return next((g for g in self.groups if g.task == task and g.variant == variant), None)

    def of_task(self, task: str) -> list[Group]:
        """The groups of a task, in the order of the variants."""
        order = {name: place for place, name in enumerate(self.variants)}
        return sorted((g for g in self.groups if g.task == task), key=lambda g: order[g.variant])

    def baseline(self, group: Group, matched: bool) -> Group | None:
        """Vanilla under the same model, task and schedule; `matched`: with as many forwarded examples as two passes."""
        wanted = {**_shared(group.settings), "schedule.match_compute": matched}
        for other in self.of_task(group.task):
            if other.settings["method.name"] == "vanilla" and _shared(other.settings) == wanted:
                return other
        return None


def _shared(settings: Settings) -> Settings:
    return {key: value for key, value in settings.items() if not key.startswith("method.")}


METHODS = ("vanilla", "static_sd", "dynsdpb", "kd", "dcs")


def study(runs: Iterable[Run]) -> Study:
    """Group the finished runs, and name tasks and variants by what sets them apart."""
    finished = [run for run in runs if run.finished]
    task_names = _names([_part(run, "task.") for run in finished], "task.name")
    variant_names = _names([_variant(run) for run in finished], "method.name")
    gathered: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    for run in finished:
        key = task_names[_key(_part(run, "task."))], variant_names[_key(_variant(run))]
        gathered[key][run.seed] = run
    groups = [Group(task, variant, dict(sorted(runs.items()))) for (task, variant), runs in gathered.items()]
    place = {name: number for number, name in enumerate(METHODS)}

    def order(variant: str) -> tuple[int, list[tuple[int, float, str]]]:
        words = variant.replace("=", " ").split()
        return place.get(words[0], len(METHODS)), [_sortable(word) for word in words]

    return Study(
        groups,
        sorted({g.task for g in groups}, key=lambda name: [_sortable(word) for word in name.replace("=", " ").split()]),
        sorted({g.variant for g in groups}, key=order),
    )


def _sortable(word: str) -> tuple[int, float, str]:
    try:
        return 0, float(word.strip("(),")), ""
    except ValueError:
        return 1, 0.0, word


def _part(run: Run, prefix: str) -> Settings:
    return {key: value for key, value in run.settings.items() if key.startswith(prefix)}


def _variant(run: Run) -> Settings:
    return {key: value for key, value in run.settings.items() if not key.startswith("task.")}


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _names(parts: Sequence[Settings], own: str) -> dict[str, str]:
    """A name for each distinct part: the setting `own`, and the settings in which others of that name differ from it.

    Where there are several models, every name says its own.
    """
    distinct = {_key(part): part for part in parts}
    by_name: dict[str, list[Settings]] = defaultdict(list)
    for part in distinct.values():
        by_name[part[own]].append(part)
    several_models = len({part.get("model.name") for part in distinct.values()}) > 1
    names = {}
    for key, part in distinct.items():
        rivals = by_name[part[own]]
        differing = sorted(k for k in part if any(r.get(k, _ABSENT) != part[k] for r in rivals))
        if several_models and "model.name" not in differing:
            differing.insert(0, "model.name")
        if "model.name" in differing:  # what follows from the model needs no words
            differing = [k for k in differing if k == "model.name" or not k.startswith("model.")]
        said = ", ".join(f"{_short(k)}={_value(part[k])}" for k in differing)
        names[key] = f"{part[own]} ({said})" if said else str(part[own])
    return names


_ABSENT = object()


def _short(key: str) -> str:
    """`method.tau` is called `tau`, `schedule.match_compute` keeps its last word, `model.name` its first."""
    return "model" if key == "model.name" else key.split(".", 1)[1].removesuffix("_")


def _value(value: object) -> str:
    """A setting's value in a label; of a path the end."""
    words = "none" if value is None else str(value)
    return f"…{words[-20:]}" if "/" in words and len(words) > 24 else words
