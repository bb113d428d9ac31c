"""Plain teacher–student distillation with stored teacher logits (Hinton et al., arXiv 1503.02531).

L = mean_i [ α · CE(z_i, y_i) + (1 − α) · τ² · KL( p(z_i^T; τ) ‖ p(z_i; τ) ) ]

`standardize` sets the logits of both sides to mean 0 and standard deviation 1 before τ (Sun et al., arXiv 2403.01427).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.methods.base import Method, TrainingContext


class KD(Method):
    """DCS with all weights 1 and no warm-up: its λ = 1 baseline."""

    def __init__(self, context: TrainingContext, tau: float, alpha: float, standardize: bool = False) -> None:
        super().__init__(context)
        if context.teacher_logits is None:
            raise ValueError("this method needs the teacher's logits on the training set")
        self.tau = tau
        self.alpha = alpha
        self.standardize = standardize

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        n = len(batch.plan.examples)
        teacher = self.context.taught(batch)
        ce_weight, kd_weight = self.example_weights(batch)
        supervised, divergence = self.context.losses.from_teacher(logits, batch, teacher, self.tau, self.standardize)
        ce = ce_weight * self.alpha * supervised / n
        kd = kd_weight * (1 - self.alpha) * divergence / n
        return PerExampleLoss(ce + kd, {"ce": ce, "kd": kd})

    def example_weights(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Weights of both losses, each [m]."""
        ones = torch.ones(len(batch.positions), device=batch.positions.device)
        return ones, ones
