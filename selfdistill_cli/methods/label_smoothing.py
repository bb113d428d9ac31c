"""Label smoothing (Szegedy et al., arXiv 1512.00567): L = mean_i CE( (1 − ε)·onehot(y_i) + ε/C , p_i ).

The simplest control of self-distillation, which softens the labels too; at answer tokens C is the vocabulary.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from selfdistill_cli import objectives
from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.methods.base import Method, TrainingContext


class LabelSmoothing(Method):
    """Cross-entropy against softened labels."""

    def __init__(self, context: TrainingContext, epsilon: float) -> None:
        super().__init__(context)
        self.smoothed = partial(objectives.smoothed_cross_entropy, epsilon=epsilon)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        smoothed = self.context.losses.of_logits(self.smoothed, logits, batch) / len(batch.plan.examples)
        return PerExampleLoss(smoothed, {"smoothed_ce": smoothed})
