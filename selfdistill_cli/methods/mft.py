"""Minifinetuning (arXiv 2506.15702), "corrective self-distillation": learn as little beside the labels as possible.

    L = mean_i KL( p̃_i ‖ p(z_i) ),   p̃ = the starting model's own distribution p⁰, corrected by the gold label

How it is corrected, and the threshold θ: objectives.corrected. Of written answers this is done for each token, and the
mean is taken. With a classification head the start knows no classes: there the teacher of dcs takes its place.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.methods.averaging import copied_weights
from selfdistill_cli.methods.base import Method, TrainingContext


class MFT(Method):
    """Distil what the model knew, corrected where the label says otherwise."""

    def __init__(self, context: TrainingContext, theta: float) -> None:
        super().__init__(context)
        self.theta = theta
        self._start: dict[str, Tensor] = {}  # the starting model's weights, as far as they are trained

    def before_training(self, model: nn.Module) -> None:
        if self.context.teacher_logits is None:
            self._start = copied_weights(model)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        losses = self.context.losses
        divergence, correction = losses.from_corrected(logits, batch, self._base(batch), self.theta)
        total = divergence / len(batch.plan.examples)
        return PerExampleLoss(total, {"corrected_kl": total}, {"correction": correction}, batch.examples)

    def _base(self, batch: MicroBatch) -> Any:
        """What is corrected: stored logits, or this micro-batch's predictions by the starting weights."""
        if self.context.teacher_logits is None:
            return batch.predict(self._start, self.context.losses.bound)
        return self.context.taught(batch)
