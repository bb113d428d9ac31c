"""What a step found: its losses and signals, which stay on the device until many steps' are fetched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfdistill_cli.engine.grad_shares import grad_shares
from selfdistill_cli.engine.method import PerExampleLoss
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.engine.transfer import on_host


@dataclass(frozen=True)
class StepResult:
    """One step's losses and what else is logged; gradients are in the model.

    Its figures are made on the CPU, when they are asked for: of a result that was not `fetched`, that waits for the device.
    """

    losses: list[PerExampleLoss]
    """Of each micro-batch, detached."""
    norms: list[dict[str, Tensor]]
    """Of each micro-batch: see `engine.grad_shares.squared_norms`."""
    logits: Any
    """Detached, in the order of the plan's examples, on the device: `Predictions`, logits in float32. None: nobody needs them any more."""
    examples: int
    """Forwarded, each copy of one."""
    beside: Passes
    """What the method had forwarded beside them (`MicroBatch.predict`)."""
    tokens: int
    """Without padding."""
    padded_tokens: int
    """With padding, of this process alone."""

    @cached_property
    def loss(self) -> float:
        """Of the step."""
        return float(sum(loss.total.sum() for loss in self.losses))

    @cached_property
    def parts(self) -> dict[str, float]:
        """`loss/<name>`."""
        return {
            f"loss/{name}": float(sum(loss.parts[name].sum() for loss in self.losses)) for name in self.losses[0].parts
        }

    @cached_property
    def signals(self) -> dict[str, float]:
        """`<name>/mean|min|max|p10|p50|p90`."""
        return _spread(self.losses)

    @cached_property
    def per_example(self) -> dict[str, list[float]]:
        """The signals of single examples, and in `examples` these examples' numbers; empty if the method names none."""
        return _per_example(self.losses)

    @cached_property
    def grad_shares(self) -> dict[str, float]:
        """`grad_share/<part>`: see `engine.grad_shares`."""
        return grad_shares([{name: float(squared) for name, squared in piece.items()} for piece in self.norms])


def fetched(results: Sequence[StepResult], others: Sequence[Tensor]) -> tuple[list[StepResult], list[Tensor]]:
    """These results with what their figures are made of on the CPU, and other tensors there: one copy of each type."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    def through(use: Callable[[Tensor], Tensor]) -> list[StepResult]:
        return [
            replace(
                result,
                losses=[changed(loss, use) for loss in result.losses],
                norms=[{name: use(squared) for name, squared in piece.items()} for piece in result.norms],
            )
            for result in results
        ]

    through(note)
    arrived = iter(on_host([*found, *others]))
    return through(lambda _: next(arrived)), list(arrived)


def changed(loss: PerExampleLoss, use: Callable[[Tensor], Tensor]) -> PerExampleLoss:
    """The same with `use` of each of its tensors, always in the same order."""
    return PerExampleLoss(
        use(loss.total),
        {name: use(part) for name, part in loss.parts.items()},
        {name: use(signal) for name, signal in loss.signals.items()},
        None if loss.signals_of is None else use(loss.signals_of),
    )


def _spread(losses: list[PerExampleLoss]) -> dict[str, float]:
    """Mean, extremes and quantiles over the step of every signal that a micro-batch reported."""
    reported: dict[str, list[Tensor]] = {}
    for loss in losses:
        for name, values in loss.signals.items():
            reported.setdefault(name, []).append(values.float().flatten())
    spread: dict[str, float] = {}
    for name, pieces in reported.items():
        values = torch.cat(pieces)
        low, median, high = torch.quantile(values, values.new_tensor([0.1, 0.5, 0.9])).tolist()
        spread |= {
            f"{name}/mean": float(values.mean()),
            f"{name}/min": float(values.min()),
            f"{name}/max": float(values.max()),
            f"{name}/p10": low,
            f"{name}/p50": median,
            f"{name}/p90": high,
        }
    return spread


def _per_example(losses: list[PerExampleLoss]) -> dict[str, list[float]]:
    """Signals by example; where several processes saw the whole step, each example once."""
    named = [loss for loss in losses if loss.signals_of is not None]
    if not named:
        return {}
    numbers = torch.cat([loss.signals_of.cpu() for loss in named if loss.signals_of is not None])
    first = np.unique(numbers.numpy(), return_index=True)[1]
    columns = {
        name: torch.cat([loss.signals[name].float().flatten().cpu() for loss in named])[first].tolist()
        for name in named[0].signals
    }
    return {"examples": numbers[first].tolist(), **columns}
