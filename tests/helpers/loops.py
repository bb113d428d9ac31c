"""A whole training loop on a tiny transformer, without files, terminal or validation set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.loop import TrainingLoop
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.tracking.recorder import SilentRecorder
from tests.helpers.runs import composed


class Rows(SilentRecorder):
    """Keeps the rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def row(self, values: dict[str, Any]) -> None:
        self.rows.append(values)


class NoScores:
    """Evaluates nothing."""

    def scores(self, model: Any) -> Scores:
        return Scores({"accuracy": 0.0}, "accuracy", {})


def make_loop(model: Any, method: Any, examples: Any, runtime: Runtime, folder: Path, **schedule: Any) -> TrainingLoop:
    """A loop with the settings of `conf/schedule/default.yaml` but for `schedule`; its rows are in `recorder.rows`."""
    settings = composed("schedule.batch_size=10").schedule
    return TrainingLoop(
        model=model,
        method=method,
        examples=examples,
        evaluator=NoScores(),
        schedule=OmegaConf.merge(settings, schedule),  # type: ignore[arg-type]
        seed=0,
        runtime=runtime,
        recorder=Rows(),
        checkpoints=Checkpoints(folder),
        make_probes=lambda steps: [],
    )
