"""Focal loss (Lin et al., arXiv 1708.02002): L = mean_i −(1 − p_{i,y})^γ · log p_{i,y}.

A control of dcs, which also turns to the hard examples, but by a teacher and over rounds; here for each answer token.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from selfdistill_cli import objectives
from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.methods.base import Method, TrainingContext


class Focal(Method):
    """Cross-entropy that counts less where the label is likely already."""

    def __init__(self, context: TrainingContext, gamma: float) -> None:
        super().__init__(context)
        self.focal = partial(objectives.focal_loss, gamma=gamma)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        focal = self.context.losses.of_logits(self.focal, logits, batch) / len(batch.plan.examples)
        return PerExampleLoss(focal, {"focal": focal})
