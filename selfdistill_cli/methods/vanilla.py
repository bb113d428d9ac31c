"""Plain fine-tuning: L = mean_i CE(z_i, y_i); mean squared error in regression."""

from __future__ import annotations

from typing import Any

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.methods.base import Method


class Vanilla(Method):
    """The supervised loss alone."""

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        ce = self.context.losses.supervised(logits, batch) / len(batch.plan.examples)
        return PerExampleLoss(ce, {"ce": ce})
