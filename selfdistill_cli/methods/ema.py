"""Mean teacher (Tarvainen & Valpola, arXiv 1703.01780; BERT-SDA: Xu et al., arXiv 2002.10345): the average of the weights
so far teaches the weights of now.

    θ̄ ← β_t · θ̄ + (1 − β_t) · θ   after step t = 1, 2, …,     β_t = min( β, (1 + t) / (10 + t) )
    L = mean_i [ CE(z_i, y_i) + α · τ² · KL( p(z_i^θ̄; τ) ‖ p(z_i^θ; τ) ) ]

The teacher has neither dropout nor a gradient. Regression: the squared error in place of the divergence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, Weights
from selfdistill_cli.methods.base import Method, TrainingContext


class EMA(Method):
    """Distillation from the exponential moving average of the trained weights (with LoRA, of the update alone)."""

    def __init__(self, context: TrainingContext, tau: float, alpha: float, beta: float, evaluate: str) -> None:
        super().__init__(context)
        self.tau = tau
        self.alpha = alpha
        self.beta = beta
        self.evaluate = evaluate
        self.average: dict[str, Tensor] = {}
        """θ̄ by names, float32 at least: in bfloat16 a thousandth of a weight would be lost. Set before training."""
        self.steps = 0
        """How many have been averaged, t."""
        self._types: dict[str, torch.dtype] = {}

    @torch.no_grad()
    def before_training(self, model: nn.Module) -> None:
        trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        self._types = {name: p.dtype for name, p in trained.items()}
        self.average = {
            name: p.to(torch.promote_types(p.dtype, torch.float32), copy=True) for name, p in trained.items()
        }

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        losses, n = self.context.losses, len(batch.plan.examples)
        teacher = batch.predict(self._teacher(), losses.bound)
        supervised, divergence = losses.from_teacher(logits, batch, teacher, self.tau)
        ce, kd = supervised / n, self.alpha * divergence / n
        return PerExampleLoss(ce + kd, {"ce": ce, "kd": kd})

    def _teacher(self) -> Weights:
        """The average in the types of the model's weights."""
        return {name: mean.to(self._types[name]) for name, mean in self.average.items()}

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        self.steps += 1
        beta = min(self.beta, (1 + self.steps) / (10 + self.steps))
        weights = dict(model.named_parameters())
        for name, mean in self.average.items():
            mean.lerp_(weights[name].to(mean.dtype), 1 - beta)

    def evaluated_weights(self) -> Weights | None:
        return self._teacher() if self.evaluate == "average" else None

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, mean in self.average.items():
            mean.copy_(state["average"][name])
