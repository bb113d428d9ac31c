"""Mean teacher (Tarvainen & Valpola, arXiv 1703.01780; BERT-SDA: Xu et al., arXiv 2002.10345): the average of the weights
so far teaches the weights of now.

    θ̄ ← β_t · θ̄ + (1 − β_t) · θ   after step t = 1, 2, …,     β_t = min( β, (1 + t) / (10 + t) )
    L = mean_i [ CE(z_i, y_i) + α · τ² · KL( p(z_i^θ̄; τ) ‖ p(z_i^θ; τ) ) ]

The teacher has neither dropout nor a gradient. Regression: the squared error in place of the divergence.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, Weights
from selfdistill_cli.methods.averaging import WeightAverage
from selfdistill_cli.methods.base import Method, TrainingContext


class EMA(Method):
    """Distillation from the exponential moving average of the trained weights (with LoRA, of the update alone)."""

    def __init__(self, context: TrainingContext, tau: float, alpha: float, beta: float, evaluate: str) -> None:
        super().__init__(context)
        self.tau = tau
        self.alpha = alpha
        self.evaluate = evaluate
        self.averaged = WeightAverage(beta)

    def before_training(self, model: nn.Module) -> None:
        self.averaged.begin(model)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        losses, n = self.context.losses, len(batch.plan.examples)
        teacher = batch.predict(self.averaged.weights(), losses.bound)
        supervised, divergence = losses.from_teacher(logits, batch, teacher, self.tau)
        ce, kd = supervised / n, self.alpha * divergence / n
        return PerExampleLoss(ce + kd, {"ce": ce, "kd": kd})

    def after_step(self, model: nn.Module) -> None:
        self.averaged.take_in(model)

    def evaluated_weights(self) -> Weights | None:
        return self.averaged.weights() if self.evaluate == "average" else None

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged.load_state_dict(state)
