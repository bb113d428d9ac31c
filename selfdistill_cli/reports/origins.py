"""Runs that go on from other runs: from their weights (`sequence`, model.name=<run>), or from what they wrote
(`self_training`). Said in words that are the same for every seed, where config.yaml has paths that are not."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from selfdistill_cli.reports.intact import DamagedFileError, read_config
from selfdistill_cli.reports.naming import identity

if TYPE_CHECKING:
    from selfdistill_cli.reports.runs import Run, Settings


ROUND = "method.self_training"
"""The setting that says which round of self-training a run is, and how it drew."""
START = "model.start"
"""The setting that tells runs apart which start from runs of other settings, whatever their seeds."""


Found = Mapping[str, Sequence[Path]]
"""The directories of all runs that were found, by key."""
ALONE: Found = MappingProxyType({})
"""Of a run that is looked at by itself."""


def with_origins(settings: Settings, cfg: Mapping[str, Any], found: Found) -> tuple[Settings, Path | None]:
    """The settings with such paths replaced, and the directory of the run that this one starts from.

    A round of self-training is a variant of its method; its number and how it drew stand beside the method's settings.
    """
    settings = dict(settings)
    asked = cfg.get("self_training") or {}
    if asked.get("round") is not None:
        settings["task.added"] = None
        drawn = f"{asked.get('samples')} drawn at {asked.get('temperature')}{_request(asked)}"
        settings[ROUND] = f"{asked['name']} round {asked['round']}, {drawn}"
    start = _run_of(Path(str(settings.get("model.name"))), found)
    if start is not None:
        settings["model.name"], settings[START] = _words(start, found), _digest(start, found)
    return settings, start


def _request(asked: Mapping[str, Any]) -> str:
    """Where it is not the default, what stood behind an attempt and asked for the next, by its hash: it may be long."""
    from selfdistill_cli.reports.older import default_request

    request = asked.get("request")  # older rounds have none in their configuration
    return "" if request in (None, default_request()) else f", request {sha256(request.encode()).hexdigest()[:8]}"


def _run_of(model: Path, found: Found) -> Path | None:
    """The run whose folder, or whose model/, this is: by its key among those that were found, which may have been moved."""
    for folder in (model, model.parent):
        same = found.get(folder.name, ())
        for place in sorted((folder.absolute(), *same), key=lambda place: place not in same):
            if (place / "results.json").is_file() and (place / "config.yaml").is_file():
                return place
    return None


def _words(start: Path, found: Found) -> str:
    """`tiny_llama after synth_arithmetic by dynsdpb`."""
    try:
        cfg = read_config(start / "config.yaml")
        before = _run_of(Path(str(cfg["model"]["name"])), found)
        model = _words(before, found) if before is not None else cfg["model"]["name"]
        return f"{model} after {cfg['task']['name']} by {cfg['method']['name']}"
    except (DamagedFileError, KeyError, TypeError):
        return str(start)


def _digest(start: Path, found: Found) -> str:
    """The same for runs that differ in the seed alone, and in the seeds of those that they start from."""
    from selfdistill_cli.reports.older import completed_settings
    from selfdistill_cli.reports.runs import settings_of

    try:
        settings, _ = settings_of(read_config(start / "config.yaml"), found)
    except (DamagedFileError, KeyError, TypeError):
        return str(start)
    return sha256(identity(completed_settings(settings)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Chain:
    """Stages that were trained one after the other, by one method and seed."""

    stages: list[Run]
    start: Run | None
    """The starting model, scored and not trained."""

    @property
    def tasks(self) -> list[str]:
        """In their order."""
        return [stage.task for stage in self.stages]

    def scores(self, number: int) -> dict[str, float] | None:
        """Of all tasks after this stage (-1: before the first), by task; None where one of them was not scored."""
        run = self.start if number < 0 else self.stages[number]
        if run is None:
            return None
        found = {run.task: run.results["score"], **{name: one["score"] for name, one in run.other_tasks.items()}}
        return {task: found[task] for task in self.tasks} if set(self.tasks) <= set(found) else None


def sequences(runs: Sequence[Run]) -> list[Chain]:
    """The longest sequences among these finished runs whose stages were each scored on all of their tasks."""
    by_path = {run.path.absolute(): run for run in runs if run.finished}
    followed = {run.start.absolute() for run in by_path.values() if run.start is not None}
    untrained: dict[tuple[str, str, int], Run] = {
        (run.task, str(run.settings["model.name"]), run.seed): run
        for run in by_path.values()
        if run.results.get("examples_forwarded") == 0
    }
    found = []
    for path, run in by_path.items():
        if run.start is None or path in followed:
            continue
        stages = [run]
        while stages[0].start is not None and stages[0].start.absolute() in by_path:
            stages.insert(0, by_path[stages[0].start.absolute()])
        first = stages[0]
        made = Chain(stages, untrained.get((first.task, str(first.settings["model.name"]), first.seed)))
        if len(stages) > 1 and all(made.scores(number) is not None for number in range(len(stages))):
            found.append(made)
    return found


def alike(found: Sequence[Chain]) -> list[list[Chain]]:
    """Sequences that differ in the seed alone, together; of several with one seed, as in a copied folder, the first."""
    from selfdistill_cli.reports.older import completed_settings

    groups: dict[str, dict[int, Chain]] = defaultdict(dict)
    for one in found:
        settings = json.dumps([identity(completed_settings(stage.settings)) for stage in one.stages])
        groups[settings].setdefault(one.stages[-1].seed, one)
    return [list(of_seed.values()) for of_seed in groups.values()]
