"""Runs that go on from other runs: from their weights (`sequence`, model.name=<run>), or from what they wrote
(`self_training`). Said in words that are the same for every seed, where config.yaml has paths that are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfdistill_cli.reports.intact import DamagedFileError, read_config

if TYPE_CHECKING:
    from selfdistill_cli.reports.runs import Run, Settings


ROUND = "method.self_training"
"""The setting that says which round of self-training a run is, and how it drew."""


def with_origins(settings: Settings, cfg: Mapping[str, Any]) -> tuple[Settings, Path | None]:
    """The settings with such paths replaced, and the directory of the run that this one starts from.

    A round of self-training is a variant of its method; its number and how it drew stand beside the method's settings.
    """
    settings = dict(settings)
    asked = cfg.get("self_training") or {}
    if asked.get("round") is not None:
        settings["task.added"] = None
        drawn = f"{asked.get('samples')} drawn at {asked.get('temperature')}"
        settings[ROUND] = f"{asked['name']} round {asked['round']}, {drawn}"
    start = _run_of(Path(str(settings.get("model.name"))))
    if start is not None:
        settings["model.name"] = _words(start)
    return settings, start


def _run_of(model: Path) -> Path | None:
    """The run whose folder, or whose model/, this is."""
    for folder in (model, model.parent):
        if (folder / "results.json").is_file() and (folder / "config.yaml").is_file():
            return folder
    return None


def _words(start: Path) -> str:
    """`tiny_llama after synth_arithmetic by dynsdpb`."""
    try:
        cfg = read_config(start / "config.yaml")
        before = _run_of(Path(str(cfg["model"]["name"])))
        model = _words(before) if before is not None else cfg["model"]["name"]
        return f"{model} after {cfg['task']['name']} by {cfg['method']['name']}"
    except (DamagedFileError, KeyError, TypeError):
        return str(start)


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


def by_method(found: Sequence[Chain]) -> dict[tuple[str, ...], list[Chain]]:
    """Sequences that differ in the seed alone, by their tasks and the method of each stage."""
    groups: dict[tuple[str, ...], list[Chain]] = defaultdict(list)
    for one in found:
        groups[(*one.tasks, *(stage.method for stage in one.stages))].append(one)
    return dict(groups)
