"""Trained weights of another time than now: a copy of them, and their running average.

θ̄ ← β_t · θ̄ + (1 − β_t) · θ   after step t = 1, 2, …,     β_t = min( β, (1 + t) / (10 + t) )
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selfdistill_cli.engine.method import Weights


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """The trained weights as they are now (with LoRA, those of the update alone), by names."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


class WeightAverage:
    """Of all trained weights (with LoRA, of the update alone), from their start on."""

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.mean: dict[str, Tensor] = {}
        """θ̄ by names, float32 at least: in bfloat16 a thousandth of a weight would be lost."""
        self.steps = 0
        """How many have been averaged, t."""
        self._types: dict[str, torch.dtype] = {}

    @torch.no_grad()
    def begin(self, model: nn.Module) -> None:
        """Take the weights as training finds them."""
        trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        self._types = {name: p.dtype for name, p in trained.items()}
        self.mean = {name: p.to(torch.promote_types(p.dtype, torch.float32), copy=True) for name, p in trained.items()}

    @torch.no_grad()
    def take_in(self, model: nn.Module) -> None:
        """Average the weights after a step."""
        self.steps += 1
        beta = min(self.beta, (1 + self.steps) / (10 + self.steps))
        weights = dict(model.named_parameters())
        for name, mean in self.mean.items():
            mean.lerp_(weights[name].to(mean.dtype), 1 - beta)

    def weights(self) -> Weights:
        """The average in the types of the model's weights."""
        return {name: mean.to(self._types[name]) for name, mean in self.mean.items()}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"average": self.mean, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, after `begin`."""
        self.steps = state["steps"]
        for name, mean in self.mean.items():
            mean.copy_(state["average"][name])
