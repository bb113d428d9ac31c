"""Forward and backward of one step, in micro-batches whose gradients add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.encoding import Examples
from selfdistill_cli.engine.batching import micro_batches
from selfdistill_cli.engine.prediction import forward
from selfdistill_cli.step_data import MicroBatch, PerExampleLoss, StepPlan


class TrainingMethod(Protocol):
    """What the loop asks of a method; `selfdistill_cli.methods.Method` describes each part."""

    forwards_per_example: int

    @property
    def needs_whole_step(self) -> bool: ...
    @property
    def fresh_per_step(self) -> int: ...
    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan: ...
    def loss(self, logits: Tensor, batch: MicroBatch) -> PerExampleLoss: ...
    def after_step(self, plan: StepPlan, logits: Tensor) -> None: ...
    def after_epoch(self, epoch: int, predict: Any) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class StepResult:
    """One step's loss, its parts, and what else is logged; gradients are in the model."""

    loss: float
    parts: dict[str, float]
    """`loss/<name>`."""
    signals: dict[str, float]
    """`<name>/mean|min|max`."""
    logits: Tensor
    """Detached float32 on the CPU, in the order of the plan's examples."""
    examples: int
    tokens: int
    """Without padding."""


def backward_step(
    model: nn.Module,
    method: TrainingMethod,
    examples: Examples,
    plan: StepPlan,
    token_budget: int,
    accelerator: Accelerator,
) -> StepResult:
    """Accumulate the gradient of the step's loss.

    The loss is a sum over examples, so the gradient does not depend on how the step is cut into
    micro-batches. A method that needs the whole step gets all logits at once, at the price of
    holding every micro-batch's activations.
    """
    rows = np.asarray(plan.examples)
    parts = micro_batches(examples.lengths[rows], token_budget)
    device = accelerator.device
    losses: list[PerExampleLoss] = []
    kept: list[Tensor] = []

    def backward(positions: np.ndarray, logits: Tensor) -> None:
        batch = MicroBatch(
            plan=plan,
            positions=torch.from_numpy(positions).to(device),
            examples=torch.from_numpy(rows[positions]).to(device),
            labels=torch.from_numpy(examples.labels[rows[positions]]).to(device),
        )
        loss = method.loss(logits, batch)
        accelerator.backward(loss.total.sum())
        losses.append(loss)

    for positions in parts:
        logits = forward(model, examples, rows[positions], device)
        kept.append(logits if method.needs_whole_step else logits.detach())
        if not method.needs_whole_step:
            backward(positions, logits)
    if method.needs_whole_step:
        backward(np.concatenate(parts), torch.cat(kept))

    logits = torch.cat(kept).detach().float().cpu()
    in_order = torch.empty_like(logits)
    in_order[torch.from_numpy(np.concatenate(parts))] = logits
    return StepResult(
        loss=float(sum(loss.total.detach().sum() for loss in losses)),
        parts={f"loss/{name}": _total(losses, name) for name in losses[0].parts},
        signals=_spread(losses),
        logits=in_order,
        examples=len(rows),
        tokens=int(examples.lengths[rows].sum()),
    )


def _total(losses: list[PerExampleLoss], name: str) -> float:
    return float(sum(loss.parts[name].detach().sum() for loss in losses))


def _spread(losses: list[PerExampleLoss]) -> dict[str, float]:
    """Mean, minimum and maximum over the step of every signal that a micro-batch reported."""
    gathered: dict[str, list[Tensor]] = {}
    for loss in losses:
        for name, values in loss.signals.items():
            gathered.setdefault(name, []).append(values.detach().float().flatten())
    spread: dict[str, float] = {}
    for name, pieces in gathered.items():
        values = torch.cat(pieces)
        spread |= {
            f"{name}/mean": float(values.mean()),
            f"{name}/min": float(values.min()),
            f"{name}/max": float(values.max()),
        }
    return spread
