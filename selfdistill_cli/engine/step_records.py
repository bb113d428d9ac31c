"""What training steps leave to be recorded: fetched from the device some steps at a time, checked, written."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from omegaconf import DictConfig
from torch import Tensor

from selfdistill_cli.engine.profiling import Clock
from selfdistill_cli.engine.progress import Progress
from selfdistill_cli.engine.results import StepResult, fetched
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.errors import UserError

STEPS_AT_ONCE = 16
"""Of a card, which would stand still while each step's figures are fetched and read."""
LONGEST_WAIT = 1.0
"""Seconds after which figures are fetched in any case, for whoever watches."""


class Recorder(Protocol):
    """Takes the rows of metrics.jsonl and can be set back to an earlier length."""

    def start(self, total_steps: int) -> None: ...
    def row(self, values: dict[str, Any]) -> None: ...
    def position(self) -> int: ...
    def rewind(self, position: int) -> None: ...
    def flush(self) -> None: ...


@dataclass
class StepRecord:
    """One step, its figures perhaps still on the device."""

    step: int
    """From 1."""
    epoch: float
    """After it."""
    epoch_before: float
    result: StepResult
    grad_norm: Tensor
    lr: float
    times: tuple[Any, Any]
    """When it began and ended, by the clock."""
    observed: list[dict[str, Any]]
    """Rows of probes."""
    beside: dict[str, float] = field(default_factory=dict)
    """What else stands in its row: what a method says at the end of an epoch."""
    row: dict[str, Any] | None = None
    """Of metrics.jsonl; None until its figures are there."""


class StepRecords:
    """Steps that were done and not yet written.

    A loss or gradient that is no number is found when the figures are fetched, so no evaluation, checkpoint or end of a
    run may come before `write`.
    """

    def __init__(self, runtime: Runtime, recorder: Recorder, schedule: DictConfig) -> None:
        self.recorder = recorder
        self.schedule = schedule
        self.clock = Clock(runtime.device)
        self.overflow_is_skipped = runtime.precision == "fp16"  # by the gradient scaler
        alone_on_a_card = runtime.device.type == "cuda" and runtime.processes == 1
        self.at_once = STEPS_AT_ONCE if alone_on_a_card else 1
        self._waiting: list[StepRecord] = []
        self._fetched = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether so many steps wait, or for so long, that they are to be written."""
        return len(self._waiting) >= self.at_once or (
            self.at_once > 1 and time.monotonic() - self._fetched > LONGEST_WAIT
        )

    def add(self, record: StepRecord) -> StepRecord:
        """A step was done."""
        self._waiting.append(record)
        return record

    def settle(self, progress: Progress) -> None:
        """Fetch all figures, and count them in `progress`.

        Raises `UserError` at the first loss or gradient norm that is no number, when the steps before are written.
        """
        new = [record for record in self._waiting if record.row is None]
        results, norms = fetched([record.result for record in new], [record.grad_norm for record in new])
        self._fetched = time.monotonic()
        for record, result, norm in zip(new, results, norms, strict=True):
            grad_norm = float(norm)
            try:
                self._require_finite("loss", result.loss, record)
                if not self.overflow_is_skipped:
                    self._require_finite("gradient norm", grad_norm, record)
            except UserError:
                self._write()
                raise
            seconds = self.clock.seconds(*record.times)
            progress.saw(seconds, result.parts.get("loss/ce", result.loss))
            record.row = train_row(record, result, grad_norm, seconds)

    def write(self, progress: Progress) -> None:
        """Settle all steps and write their rows. Raises `UserError` as `settle` does."""
        self.settle(progress)
        self._write()

    def _write(self) -> None:
        """The rows of all steps that are settled."""
        while self._waiting and self._waiting[0].row is not None:
            record = self._waiting.pop(0)
            assert record.row is not None
            for row in (record.row | record.beside, *record.observed):
                self.recorder.row(row)
        self._waiting = []

    def _require_finite(self, what: str, value: float, record: StepRecord) -> None:
        if not math.isfinite(value):
            raise diverged(f"The {what} is {value} at step {record.step}", record.epoch_before, self.schedule)


def train_row(record: StepRecord, result: StepResult, grad_norm: float, seconds: float) -> dict[str, Any]:
    """The row of metrics.jsonl. `result`: of the step, fetched."""
    # fp16: a gradient that overflowed has no norm, and the scaler left the weights as they were.
    gradient = {"grad_norm": grad_norm} if math.isfinite(grad_norm) else {"update_skipped": True}
    return {
        "kind": "train",
        "step": record.step,
        "epoch": round(record.epoch, 6),
        "loss": result.loss,
        **result.parts,
        **result.grad_shares,
        "lr": record.lr,
        **gradient,
        **result.signals,
        "examples": result.examples,
        "examples_per_s": round(result.examples / seconds, 2),
        "tokens_per_s": round(result.tokens / seconds, 1),
    }


def diverged(what: str, epoch: float, schedule: DictConfig) -> UserError:
    """The error of a training whose numbers are none any more."""
    return UserError(
        f"{what} (epoch {epoch:.2f}): training diverged. "
        f"Try a lower schedule.lr (now {schedule.lr:g}), a longer schedule.warmup_ratio, "
        "schedule.max_grad_norm=1, or runtime.precision=fp32. Nothing was saved as finished."
    )
