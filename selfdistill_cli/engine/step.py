"""Forward and backward of one step, in micro-batches whose gradients add up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.engine.batching import Batching, micro_batches
from selfdistill_cli.engine.forwards import OtherWeights
from selfdistill_cli.engine.grad_shares import squared_norms
from selfdistill_cli.engine.method import Examples, MicroBatch, PerExampleLoss, StepPlan, TrainingMethod
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.engine.predictions import Predictions, in_order, join
from selfdistill_cli.engine.processes import add_up_gradients, gathered, own_units, units_of
from selfdistill_cli.engine.results import StepResult, changed
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.engine.sharding import release_output
from selfdistill_cli.engine.transfer import on_device


@dataclass(frozen=True)
class _Share:
    """What one process did in a step: nothing, if there were fewer examples than processes."""

    pieces: list[tuple[np.ndarray, Predictions]]
    """Positions and logits of its micro-batches."""
    losses: list[PerExampleLoss]
    norms: list[dict[str, Tensor]]
    """Squared, of the gradients of the losses' parts."""
    beside: Passes
    """With other weights."""

    def to_travel(self) -> _Share:
        """On the CPU: other processes' devices have other names."""
        return _Share(
            [(part, logits.cpu()) for part, logits in self.pieces],
            [changed(loss, Tensor.cpu) for loss in self.losses],
            [{name: squared.cpu() for name, squared in piece.items()} for piece in self.norms],
            self.beside,
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
    accelerator, batching, phases = runtime.accelerator, runtime.batching.of(model), runtime.phases
    chosen = method.before_forward(plan)
    examples = examples if chosen is None else chosen
    rows = np.asarray(plan.examples)
    with phases("data"):
        own, lengths = own_units(plan, accelerator), examples.lengths[np.asarray(plan.units)]
        parts = [plan.positions(own[part]) for part in micro_batches(lengths[own], batching, plan.copies)]
        alongside = _alongside(plan, parts, lengths, batching, runtime.processes) if runtime.shards else []
    release_output(model)
    others = OtherWeights(model, examples, runtime)
    device, labels, weights = accelerator.device, examples.labels, examples.weights
    losses: list[PerExampleLoss] = []
    kept: list[Predictions] = []
    uncounted: list[Predictions] = []
    norms: list[dict[str, Tensor]] = []

    def backward(positions: np.ndarray, logits: Predictions, own_examples: int, counts: bool = True) -> None:
        on_host, chosen = torch.from_numpy(positions), rows[positions]
        batch = MicroBatch(
            plan=plan,
            positions=on_device(on_host, device),
            examples=on_device(torch.from_numpy(chosen), device),
            labels=None if labels is None else on_device(torch.from_numpy(labels[chosen]), device),
            weights=None if weights is None else on_device(torch.from_numpy(weights[chosen]), device),
            predict=partial(others.predict, chosen),
            on_host=on_host,
        )
        passes = others.passes
        with phases("loss"):
            loss = _first(method.loss(logits, batch).weighted(batch.weights), own_examples)
        if counts and (records_answers or isinstance(logits, Tensor)):
            with phases("diagnostics"), runtime.compute.apart():
                norms.append(squared_norms(loss, logits))
        with phases("backward"):
            total = loss.total.sum() if counts else 0.0 * loss.total.sum()
            accelerator.backward(sum(map(_nothing, uncounted), total))
        if counts:
            losses.append(changed(loss, Tensor.detach))
        else:
            others.passes = passes

    with runtime.casting_weights_once():
        for number, positions in enumerate([*parts, *alongside]):
            with phases("data"):
                batch = examples.collate(rows[positions], batching.width_multiple)
            with phases("forward"):
                logits = examples.forward(model, batch, device)
            counts = number < len(parts)
            if counts:
                kept.append(logits if method.needs_whole_step else logits.detach())
            if not method.needs_whole_step:
                backward(positions, logits, len(positions), counts)
            elif not counts:
                uncounted.append(logits)
    if method.needs_whole_step:
        positions, logits = _with_others(parts, kept, accelerator)
        if parts or alongside:
            backward(positions, logits, len(own) * plan.copies, counts=len(parts) > 0)
    with phases("backward"):
        add_up_gradients(model, accelerator)

    share = _Share([(p, z.detach()) for p, z in zip(parts, kept, strict=True)], losses, norms, others.passes)
    shares = [share] if accelerator.num_processes == 1 else gathered(share.to_travel())
    return StepResult(
        losses=[loss for share in shares for loss in share.losses],
        norms=[piece for share in shares for piece in share.norms],
        logits=_whole(shares),
        examples=len(rows),
        beside=sum((share.beside for share in shares), Passes()),
        tokens=int(examples.lengths[rows].sum()),
        padded_tokens=sum(batching.size(examples.lengths[rows[part]]) for part in (*parts, *alongside)),
    )


def _alongside(
    plan: StepPlan, parts: list[np.ndarray], lengths: np.ndarray, batching: Batching, processes: int
) -> list[np.ndarray]:
    """Micro-batches that this process forwards for nothing, where all must forward equally many: matrices in parts."""
    shares = (units_of(plan, process, processes) for process in range(processes))
    most = max(len(micro_batches(lengths[share], batching, plan.copies)) for share in shares)
    return [parts[-1] if parts else plan.positions(np.array([0]))] * (most - len(parts))


def _nothing(logits: Predictions) -> Tensor:
    """Zero, whose backward pass goes through these predictions."""
    columns = [logits] if isinstance(logits, Tensor) else logits.columns.values()
    return 0.0 * torch.stack([column.sum() for column in columns if column.requires_grad]).sum()


def _first(loss: PerExampleLoss, count: int) -> PerExampleLoss:
    """The losses of the first `count` examples; signals describe the step and stay whole."""
    parts = {name: part[:count] for name, part in loss.parts.items()}
    return PerExampleLoss(loss.total[:count], parts, loss.signals, loss.signals_of)


def _with_others(parts: list[np.ndarray], kept: list[Any], accelerator: Accelerator) -> tuple[np.ndarray, Any]:
    """All positions of the step and their logits: first this process's, with a gradient, then the others'."""
    if accelerator.num_processes == 1:
        return np.concatenate(parts), join(kept)
    everyones = gathered([(part, logits.detach().cpu()) for part, logits in zip(parts, kept, strict=True)])
    mine = {int(part[0]) for part in parts}
    others = [piece for process in everyones for piece in process if int(piece[0][0]) not in mine]
    positions = np.concatenate([*parts, *(part for part, _ in others)])
    return positions, join([*kept, *(logits.to(accelerator.device) for _, logits in others)])


def _whole(shares: list[_Share]) -> Predictions:
    """The predictions of all processes in the order of the plan."""
    predictions: Predictions = in_order([piece for share in shares for piece in share.pieces])
    return predictions.float() if isinstance(predictions, Tensor) else predictions
