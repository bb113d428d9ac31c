"""Data parallelism: several processes share each step's examples, agree, and add up their gradients.

Every process plans the whole step and knows all of its logits; which examples it forwards itself follows
from their place in the plan. So losses are normalised over the whole step, methods need not know that
there are others, and a checkpoint holds one state of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from selfdistill_cli.engine.method import StepPlan
from selfdistill_cli.engine.sharding import add_up_output_gradients
from selfdistill_cli.errors import UserError

T = TypeVar("T")
BUCKET_ELEMENTS = 2**24
"""Gradients are added up in pieces of about this many numbers, so that no second copy of them all is held."""


def own_units(plan: StepPlan, accelerator: Accelerator) -> np.ndarray:
    """`units_of` this process."""
    return units_of(plan, accelerator.process_index, accelerator.num_processes)


def units_of(plan: StepPlan, process: int, processes: int) -> np.ndarray:
    """Where the examples that a process forwards, with all their copies, stand in `plan.units`.

    An example's share goes by its place among the fresh ones, and a previous example has the place that it
    had when it was fresh: each process forwards as previous what it forwarded as fresh.
    """
    places = np.concatenate([np.arange(len(plan.fresh)), np.arange(len(plan.previous))])
    return np.flatnonzero(places % processes == process)


def on_main(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Do `action` on the main process alone; its result, or its `UserError`, reaches every process."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome = [action(), None]
        except UserError as error:
            outcome = [None, error]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def gathered(own: T) -> list[T]:
    """What each process gives, in the order of their ranks, on every process."""
    return gather_object([own])


@torch.no_grad()
def add_up_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """Replace every gradient by its sum over the processes. One that no process has stays None.

    Those of matrices that are kept in parts are sums already, but for the output layer's.
    """
    if accelerator.num_processes == 1:
        return
    add_up_output_gradients(model)
    for bucket in _buckets([p for p in model.parameters() if p.requires_grad and not isinstance(p, DTensor)]):
        # A process without examples in this step has no gradients; who has one is added up beside them.
        had = [torch.full((1,), float(p.grad is not None), device=p.device) for p in bucket]
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket]
        total = accelerator.reduce(torch.cat([*flat, *had]), "sum")
        sums = total.split([p.numel() for p in bucket] + [1] * len(bucket))
        for parameter, values, count in zip(bucket, sums[: len(bucket)], sums[len(bucket) :], strict=True):
            # Added up in float32, whatever the weights are in; a copy, so that the bucket can go.
            parameter.grad = values.view_as(parameter).to(parameter.dtype, copy=True) if count else None


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
