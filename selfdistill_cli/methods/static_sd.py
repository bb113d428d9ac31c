"""Self-distillation from the previous mini-batch (DLB, arXiv 2203.16172), with constant τ and α.

    L = mean_{i ∈ B_{t−1} ∪ B_t} CE(z_i, y_i)  +  α · mean_{i ∈ B_{t−1}} τ² · KL( p(z_i^prev; τ) ‖ p(z_i; τ) )

A step forwards the fresh examples and again those of the step before. What these got when they were
fresh, one optimizer step ago, is the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selfdistill_cli.methods.base import Method, TrainingContext
from selfdistill_cli.step_data import MicroBatch, PerExampleLoss, StepPlan


class StaticSD(Method):
    """Distil each example's logits of one step ago into the model of now."""

    forwards_per_example = 2

    def __init__(self, context: TrainingContext, tau: float, alpha: float, overlap: str, start_epoch: float) -> None:
        super().__init__(context)
        self.tau = tau
        self.alpha = alpha
        self.overlap = overlap
        self.start_epoch = start_epoch
        self._previous: list[int] = []
        self._teacher: Tensor | None = None  # logits of `_previous`, in its order

    @property
    def previous_per_step(self) -> int:
        """How many examples of the step before a step takes, at most.

        `half`: the batch size counts both parts; of an odd one the fresh part gets the extra example, so
        one of the fresh examples finds no room in the next step.
        """
        return self.context.batch_size // 2 if self.overlap == "half" else self.context.batch_size

    @property
    def fresh_per_step(self) -> int:
        return self.context.batch_size - self.previous_per_step if self.overlap == "half" else self.context.batch_size

    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan:
        return StepPlan(fresh, epoch, previous=tuple(self._previous))

    def loss(self, logits: Tensor, batch: MicroBatch) -> PerExampleLoss:
        plan = batch.plan
        ce = self.context.terms.hard(logits, batch.labels) / len(plan.examples)
        again = batch.positions >= len(plan.fresh)
        if plan.epoch < self.start_epoch or not again.any():
            return PerExampleLoss(ce, {"ce": ce, "kd": torch.zeros_like(ce)})
        assert self._teacher is not None
        rows = batch.positions[again].cpu() - len(plan.fresh)
        student, teacher = logits[again], self._teacher[rows].to(logits.device)
        tau, alpha, signals = self.dynamics(rows, student.detach(), batch.labels[again])
        distilled = alpha * self.context.terms.soft(teacher, student, tau) / len(plan.previous)
        kd = torch.zeros_like(ce).index_put((again,), distilled)
        return PerExampleLoss(ce + kd, {"ce": ce, "kd": kd}, {"tau": tau, "alpha": alpha, **signals})

    def dynamics(self, rows: Tensor, student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """τ_i and α_i of previous examples `rows` [k], and the signals that they follow, to be logged.

        `student` [k, C] are this step's logits of the same examples, `labels` [k] their gold labels.
        """
        ones = torch.ones(len(rows), device=student.device)
        return self.tau * ones, self.alpha * ones, {}

    def after_step(self, plan: StepPlan, logits: Tensor) -> None:
        self._previous = list(plan.fresh[: self.previous_per_step])
        self._teacher = logits[: len(self._previous)].clone()

    def state_dict(self) -> dict[str, Any]:
        return {"previous": self._previous, "teacher": self._teacher}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._previous = list(state["previous"])
        self._teacher = state["teacher"]
