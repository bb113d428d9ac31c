"""R-Drop (Wu et al., arXiv 2106.14448): two passes of each example, different by dropout alone, are to agree.

    L = mean_i [ ½ ( CE(z_i¹) + CE(z_i²) ) + α · ½ ( KL(p_i¹ ‖ p_i²) + KL(p_i² ‖ p_i¹) ) ]

Regression: (z_i¹ − z_i²)² in place of the divergence. It costs what static_sd does, two forward and backward passes an
example, and so is the nearest control of it: the disagreement is dropout's too, but within one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.methods.base import Method, TrainingContext


class RDrop(Method):
    """Cross-entropy of both copies of each example, and the divergence between them."""

    def __init__(self, context: TrainingContext, alpha: float) -> None:
        super().__init__(context)
        self.alpha = alpha

    @property
    def needs_dropout(self) -> bool:
        return True

    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan:
        return StepPlan(fresh, epoch, copies=2)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        # Each copy carries half of what its example costs: the step has twice as many copies as examples.
        supervised, divergence = (
            of_example.repeat_interleave(2) / len(batch.plan.examples)
            for of_example in self.context.losses.between_copies(logits, batch)
        )
        kd = self.alpha * divergence
        return PerExampleLoss(supervised + kd, {"ce": supervised, "kd": kd})
