"""Probes: what a diagnostic records of a training step, without changing anything of what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from selfdistill_cli.engine.results import StepResult

RECORDED_STEPS = 200
"""Of a run, at most, by what costs time."""


class Probe(Protocol):
    """One diagnostic, asked once a step, when the gradient is there and the weights have not changed yet."""

    kind: str
    """Of its rows in metrics.jsonl."""

    def observe(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        """What is recorded of step number `step` (from 1); None: nothing this time. All processes take part."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs of earlier steps."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


def recording_interval(total_steps: int) -> int:
    """Steps from one record to the next, so that a run has at most `RECORDED_STEPS`."""
    return max(1, -(-total_steps // RECORDED_STEPS))


def rows_of(
    probes: Sequence[Probe], step: int, epoch: float, model: nn.Module, result: StepResult
) -> list[dict[str, Any]]:
    """The rows of all probes for this step."""
    found = [(probe.kind, probe.observe(step, model, result)) for probe in probes]
    return [{"kind": kind, "step": step, "epoch": round(epoch, 6), **row} for kind, row in found if row is not None]
