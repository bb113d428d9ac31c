"""Dynamic corrective self-distillation (arXiv 2312.07028): examples on which student and teacher
disagree gain weight, round after round, as in AdaBoost.

    L = mean_i w_i · [ α · CE(z_i, y_i) + (1 − α) · τ² · KL( p(z_i^T; τ) ‖ p(z_i; τ) ) ]
    w_i ← w_i · λ^{δ_i} where δ_i marks the discordant examples; see objectives.boost
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.device import widest
from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.engine.predictions import rows_of
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.methods.base import Predict, TrainingContext
from selfdistill_cli.methods.kd import KD


class DCS(KD):
    """Distillation whose examples are reweighted by the discordance of student and teacher."""

    def __init__(
        self,
        context: TrainingContext,
        tau: float,
        alpha: float,
        standardize: bool,
        lambda_: float,
        factor: str,
        reweighting: str,
        update: str,
        weight_on: str,
        max_weight: float,
        warmup_epochs: int,
        discordance_quantile: float,
    ) -> None:
        super().__init__(context, tau, alpha, standardize)
        self.gain = math.exp(lambda_) if factor == "exp" else float(lambda_)
        self.reweighting = reweighting
        self.update = update
        self.weight_on = weight_on
        self.max_weight = max_weight
        self.warmup_epochs = warmup_epochs
        self.discordance_quantile = discordance_quantile
        size = context.examples
        # 2⁻²⁴ relative rounding would drift over thousands of `update=step` normalisations.
        self.weights = torch.ones(size, dtype=widest(context.device), device=context.device)
        self.discordant = torch.zeros(size, dtype=torch.bool, device=context.device)
        self.student_right = torch.zeros_like(self.discordant)
        self.teacher_right = torch.zeros_like(self.discordant)

    @property
    def begins_at(self) -> float:
        return self.warmup_epochs

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        if batch.plan.epoch < self.warmup_epochs:
            ce = self.context.losses.supervised(logits, batch) / len(batch.plan.examples)
            return PerExampleLoss(ce, {"ce": ce, "kd": torch.zeros_like(ce)})
        weighted = super().loss(logits, batch)
        signals = {"weights": self.weights[batch.examples]}
        return PerExampleLoss(weighted.total, weighted.parts, signals, batch.examples)

    def example_weights(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        ones, _ = super().example_weights(batch)
        weights = self.weights[batch.examples].to(ones)
        return (
            ones if self.weight_on == "kd" else weights,
            ones if self.weight_on == "ce" else weights,
        )

    def after_backward(self, plan: StepPlan, logits: Any) -> None:
        if self.update == "step" and plan.epoch >= self.warmup_epochs:
            self._reweight(torch.tensor(plan.examples), logits)

    def after_epoch(self, epoch: int, predict: Predict) -> dict[str, float]:
        if epoch + 1 < self.warmup_epochs:
            return {}
        if self.update == "epoch":
            self._reweight(torch.arange(len(self.weights)), predict())
        elif epoch + 1 == self.warmup_epochs:
            return {}  # nothing was compared yet
        return self._describe()

    def _reweight(self, rows: Tensor, student: Any) -> None:
        """One boosting round over these training examples [k], given the student's logits of them."""
        losses, device = self.context.losses, self.context.device
        student, teacher = student.to(device), rows_of(self.context.teacher_logits, rows).to(device)
        labels, rows = self.context.labels_of(rows), on_device(rows, device)
        discordant = losses.discordant(teacher, student, self.discordance_quantile)
        self.discordant[rows] = discordant
        self.student_right[rows] = losses.correct(student, teacher, labels)
        self.teacher_right[rows] = losses.correct(teacher, student, labels)
        if self.reweighting == "reset":
            memoryless = torch.where(self.discordant, self.gain, 1.0).to(self.weights)
            self.weights = objectives.to_mean_one(memoryless)
        else:
            gaining = torch.zeros_like(self.discordant)
            gaining[rows] = discordant
            self.weights = objectives.boost(self.weights, gaining, self.gain, self.max_weight)

    def _describe(self) -> dict[str, float]:
        described = {
            "discordant/fraction": objectives.share(self.discordant),
            "weights/entropy": objectives.weight_entropy(self.weights),
            "weights/effective_sample_size": objectives.effective_sample_size(self.weights),
            "weights/largest": float(self.weights.max()),
        }
        if self.discordant.any():
            described["discordant/teacher_right"] = objectives.share(self.teacher_right[self.discordant])
            described["discordant/student_right"] = objectives.share(self.student_right[self.discordant])
        return described

    def per_example(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).cpu() for name in ("weights", "discordant", "student_right", "teacher_right")}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.per_example())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.context.device))
