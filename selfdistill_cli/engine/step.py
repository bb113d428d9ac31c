"""Forward and backward of one step, in micro-batches whose gradients add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.batching import micro_batches
from selfdistill_cli.engine.compute import Passes
from selfdistill_cli.engine.forwards import OtherWeights
from selfdistill_cli.engine.grad_shares import grad_shares, squared_norms
from selfdistill_cli.engine.method import Examples, MicroBatch, PerExampleLoss, StepPlan, TrainingMethod
from selfdistill_cli.engine.predictions import Predictions, in_order, join, on_cpu
from selfdistill_cli.engine.processes import add_up_gradients, gathered, own_units
from selfdistill_cli.engine.runtime import Runtime


@dataclass(frozen=True)
class StepResult:
    """One step's loss, its parts, and what else is logged; gradients are in the model."""

    loss: float
    parts: dict[str, float]
    """`loss/<name>`."""
    signals: dict[str, float]
    """`<name>/mean|min|max|p10|p50|p90`."""
    per_example: dict[str, list[float]]
    """The signals of single examples, and in `examples` these examples' numbers; empty if the method names none."""
    logits: Predictions
    """Detached, in the order of the plan's examples; logits are float32 on the CPU."""
    examples: int
    """Forwarded, each copy of one."""
    beside: Passes
    """What the method had forwarded beside them (`MicroBatch.predict`)."""
    tokens: int
    """Without padding."""
    padded_tokens: int
    """With padding, of this process alone."""
    grad_shares: dict[str, float] = field(default_factory=dict)
    """`grad_share/<part>`: see `engine.grad_shares`."""


@dataclass(frozen=True)
class _Share:
    """What one process did in a step: nothing, if there were fewer examples than processes."""

    pieces: list[tuple[np.ndarray, Predictions]]
    """Positions and logits of its micro-batches."""
    losses: list[PerExampleLoss]
    norms: list[dict[str, float]]
    """Squared, of the gradients of the losses' parts."""
    beside: Passes
    """With other weights."""

    @classmethod
    def of(
        cls,
        parts: list[np.ndarray],
        kept: list[Predictions],
        losses: list[PerExampleLoss],
        norms: list[dict[str, Tensor]],
        beside: Passes,
        travels: bool,
    ) -> _Share:
        """Detached; on the CPU if it travels to other processes, whose devices have other names."""

        def plain(tensor: Any) -> Any:
            return tensor.detach().cpu() if travels else tensor.detach()

        return cls(
            list(zip(parts, map(plain, kept), strict=True)),
            [
                PerExampleLoss(
                    plain(loss.total),
                    {name: plain(part) for name, part in loss.parts.items()},
                    {name: plain(signal) for name, signal in loss.signals.items()},
                    None if loss.signals_of is None else plain(loss.signals_of),
                )
                for loss in losses
            ],
            [{name: float(squared) for name, squared in piece.items()} for piece in norms],
            beside,
        )


def backward_step(
    model: nn.Module,
    method: TrainingMethod,
    examples: Examples,
    plan: StepPlan,
    runtime: Runtime,
    records_answers: bool = False,
) -> StepResult:
    """Accumulate the gradient of the step's loss, over micro-batches and over all processes.

    The loss is a sum over units (examples with all their copies), so the gradient does not depend on how the step is
    cut into micro-batches or shared among processes. A method that needs the whole step gets all logits at once,
    at the price of holding every micro-batch's activations. `records_answers`: also compare the gradients of the loss's
    parts where predictions are answer tokens, which takes time; elsewhere that is always done.
    """
    accelerator, batching, phases = runtime.accelerator, runtime.batching, runtime.phases
    rows = np.asarray(plan.examples)
    with phases("data"):
        own, lengths = own_units(plan, accelerator), examples.lengths[np.asarray(plan.units)]
        parts = [plan.positions(own[part]) for part in micro_batches(lengths[own], batching, plan.copies)]
    others = OtherWeights(model, examples, runtime)
    device, labels, weights = accelerator.device, examples.labels, examples.weights
    losses: list[PerExampleLoss] = []
    kept: list[Predictions] = []
    norms: list[dict[str, Tensor]] = []

    def backward(positions: np.ndarray, logits: Predictions, own_examples: int) -> None:
        batch = MicroBatch(
            plan=plan,
            positions=torch.from_numpy(positions).to(device),
            examples=torch.from_numpy(rows[positions]).to(device),
            labels=None if labels is None else torch.from_numpy(labels[rows[positions]]).to(device),
            weights=None if weights is None else torch.from_numpy(weights[rows[positions]]).to(device),
            predict=partial(others.predict, rows[positions]),
        )
        with phases("loss"):
            loss = _first(method.loss(logits, batch).weighted(batch.weights), own_examples)
        if records_answers or isinstance(logits, Tensor):
            with phases("diagnostics"), runtime.compute.apart():
                norms.append(squared_norms(loss, logits))
        with phases("backward"):
            accelerator.backward(loss.total.sum())
        losses.append(loss)

    for positions in parts:
        with phases("data"):
            batch = examples.collate(rows[positions], batching.width_multiple)
        with phases("forward"):
            logits = examples.forward(model, batch, device)
        kept.append(logits if method.needs_whole_step else logits.detach())
        if not method.needs_whole_step:
            backward(positions, logits, len(positions))
    if method.needs_whole_step:
        positions, logits = _with_others(parts, kept, device)
        if parts:
            backward(positions, logits, len(own) * plan.copies)
    with phases("backward"):
        add_up_gradients(model, accelerator)

    travels = accelerator.num_processes > 1
    shares = gathered(_Share.of(parts, kept, losses, norms, others.passes, travels))
    everyones = [loss for share in shares for loss in share.losses]
    return StepResult(
        loss=float(sum(loss.total.sum() for loss in everyones)),
        parts={f"loss/{name}": _total(everyones, name) for name in everyones[0].parts},
        signals=_spread(everyones),
        per_example=_per_example(everyones),
        logits=_whole(shares),
        examples=len(rows),
        beside=sum((share.beside for share in shares), Passes()),
        tokens=int(examples.lengths[rows].sum()),
        padded_tokens=sum(len(part) * int(batching.widths(examples.lengths[rows[part]]).max()) for part in parts),
        grad_shares=grad_shares([piece for share in shares for piece in share.norms]),
    )


def _first(loss: PerExampleLoss, count: int) -> PerExampleLoss:
    """The losses of the first `count` examples; signals describe the step and stay whole."""
    parts = {name: part[:count] for name, part in loss.parts.items()}
    return PerExampleLoss(loss.total[:count], parts, loss.signals, loss.signals_of)


def _with_others(parts: list[np.ndarray], kept: list[Any], device: torch.device) -> tuple[np.ndarray, Any]:
    """All positions of the step and their logits: first this process's, with a gradient, then the others'."""
    everyones = gathered([(part, logits.detach().cpu()) for part, logits in zip(parts, kept, strict=True)])
    mine = {int(part[0]) for part in parts}
    others = [piece for process in everyones for piece in process if int(piece[0][0]) not in mine]
    positions = np.concatenate([*parts, *(part for part, _ in others)])
    return positions, join([*kept, *(logits.to(device) for _, logits in others)])


def _whole(shares: list[_Share]) -> Predictions:
    """The predictions of all processes in the order of the plan."""
    predictions: Predictions = in_order([piece for share in shares for piece in share.pieces])
    return on_cpu(predictions) if isinstance(predictions, Tensor) else predictions


def _total(losses: list[PerExampleLoss], name: str) -> float:
    return float(sum(loss.parts[name].sum() for loss in losses))


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
