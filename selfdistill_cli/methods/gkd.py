"""Generalized knowledge distillation (GKD, Agarwal et al., arXiv 2306.13649): a teacher corrects what the student writes.

    with probability λ the step's answers are drawn by the student, y = ŷ, else they are the gold ones
    L = mean_i (1/S_i) Σ_s D( p_T(· | x, y_<s), p_θ(· | x, y_<s) )

The teacher is another model of the same vocabulary, held in memory, without dropout or gradient.
"""

from __future__ import annotations

from typing import Any

from selfdistill_cli.engine.method import MicroBatch
from selfdistill_cli.methods.base import TrainingContext
from selfdistill_cli.methods.on_drawn import OnDrawnAnswers


class GKD(OnDrawnAnswers):
    """Distil a teacher's distributions along drawn answers in some steps and along gold ones in the others."""

    def __init__(
        self, context: TrainingContext, lambda_: float, temperature: float, divergence: str, beta: float
    ) -> None:
        super().__init__(context, temperature, divergence, beta)
        if context.teacher is None:
            raise ValueError("this method needs the teacher itself")
        self.teacher = context.teacher
        self.lambda_ = lambda_

    def draws(self, number: int) -> bool:
        return self.writer.chance(number) < self.lambda_

    def teacher_predictions(self, batch: MicroBatch) -> Any:
        return batch.predict(None, self.teacher.losses.bound, by=self.teacher.model)
