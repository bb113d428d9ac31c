"""Forward passes beside the student's: by the model with other weights, and whether one draws anything at random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from selfdistill_cli.engine.batching import micro_batches
from selfdistill_cli.engine.method import Examples, Keep, Weights
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.engine.predictions import in_order
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.errors import UserError

T = TypeVar("T")


def with_weights(model: nn.Module, weights: Weights | None, action: Callable[[nn.Module], T]) -> T:
    """`action(model)`, while the model computes with `weights` in place of its own of the same names; None: its own.

    The model's parameters themselves are not touched, so a backward pass that is still to come finds them as they were.
    """
    if weights is None:
        return action(model)
    named = {f"model.{name}": tensor for name, tensor in weights.items()}
    found: T = functional_call(_Holding(model, action), named, ())
    return found


class _Holding(nn.Module):
    """A module whose forward pass is an action on the model that it holds."""

    def __init__(self, model: nn.Module, action: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.model = model
        self.action = action

    def forward(self) -> Any:
        return self.action(self.model)


class OtherWeights:
    """Predicts a step's examples by the model with other weights, and counts them: each costs a forward pass."""

    def __init__(self, model: nn.Module, examples: Examples, runtime: Runtime) -> None:
        self.model = model
        self.examples = examples
        self.runtime = runtime
        self.passes = Passes()
        """Of this process; their operations are counted among the step's."""

    def predict(
        self,
        rows: np.ndarray,
        weights: Weights | None,
        keep: Keep,
        of: Examples | None = None,
        by: nn.Module | None = None,
    ) -> Any:
        """`keep` of the predictions of these rows [m], in their order: dropout off, without gradient.

        `keep` is called while the model has the other weights. Under the token budget, also where a method sees the
        whole step at once. of, by: other examples under these row numbers, another model (`engine.method.PredictAgain`).
        """
        if of is not None and self.runtime.shards:
            # Cut by other lengths, each process would gather weights another number of times.
            raise UserError(
                "this method predicts on other examples within a step, which runtime.shard=full does not take: leave out "
                "runtime.shard, or train with one process."
            )
        examples, model = self.examples if of is None else of, self.model if by is None else by
        batching, device = self.runtime.batching.of(model), self.runtime.device
        self.passes += Passes(forward=len(rows), tokens=int(examples.lengths[rows].sum()))

        def forward(model: nn.Module) -> Any:
            parts = micro_batches(examples.lengths[rows], batching)
            batches = [examples.collate(rows[part], batching.width_multiple) for part in parts]
            kept = [keep(examples.forward(model, batch, device)) for batch in batches]
            return in_order(list(zip(parts, kept, strict=True)))

        was_training = model.training
        model.eval()
        with torch.no_grad():
            found = with_weights(model, weights, forward)
        torch.clear_autocast_cache()  # a weight that was cast without gradient must not be taken for one with it
        model.train(was_training)
        return found


@torch.no_grad()
def draws_at_random(model: nn.Module, examples: Examples) -> bool:
    """Whether a forward pass in training draws anything at random, as dropout does. The model is on one device.

    The generator tells it better than two predictions would: a fresh LoRA update is zero, whatever is dropped in it.
    """
    was_training = model.training
    model.train()
    shortest = np.array([examples.lengths.argmin()])
    device = next(model.parameters()).device  # rounded weights are on the card already
    on_card = device.type == "cuda"
    state = partial(torch.cuda.get_rng_state, device) if on_card else torch.get_rng_state
    with torch.random.fork_rng(devices=[device] if on_card else []):
        before = state()
        examples.forward(model, examples.collate(shortest, 1), device)
        drew = not torch.equal(before, state())
    model.train(was_training)
    return drew
