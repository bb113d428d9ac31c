"""Self-distillation fine-tuning (SDFT, arXiv 2601.19897): the model, shown the gold answer, teaches itself without it.

    c_i = the question with the gold answer as a demonstration (`demonstration`)
    L = mean_i (1/S_i) Σ_s D( p_θ'(· | c_i, ŷ_<s), p_θ(· | x_i, ŷ_<s) ),    ŷ drawn by the student from p_θ(· | x_i)

θ' are the weights at the start, their running average (averaging.py) or those of now: without dropout or gradient.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from selfdistill_cli.engine.method import Examples, MicroBatch, StepPlan, Weights
from selfdistill_cli.methods.averaging import WeightAverage, copied_weights
from selfdistill_cli.methods.base import TrainingContext
from selfdistill_cli.methods.on_drawn import OnDrawnAnswers


class SDFT(OnDrawnAnswers):
    """Distil the model's own distributions behind a prompt that shows the gold answer."""

    def __init__(
        self,
        context: TrainingContext,
        demonstration: str,
        weights: str,
        ema_beta: float,
        temperature: float,
        divergence: str,
        beta: float,
    ) -> None:
        super().__init__(context, temperature, divergence, beta)
        self.demonstrated = self.writer.prompted(demonstration)
        self.weights = weights
        self._average = WeightAverage(ema_beta)
        self._start: dict[str, Tensor] = {}
        self._behind: Examples | None = None  # this step's answers behind the demonstrations

    def before_training(self, model: nn.Module) -> None:
        if self.weights == "ema":
            self._average.begin(model)
        elif self.weights == "start":
            self._start = copied_weights(model)

    def before_forward(self, plan: StepPlan) -> Examples | None:
        forwarded = super().before_forward(plan)
        assert self.drawn is not None
        self._behind = self.writer.examples(self.drawn, self.demonstrated)
        return forwarded

    def _teacher(self) -> Weights | None:
        if self.weights == "ema":
            return self._average.weights()
        return self._start if self.weights == "start" else None

    def teacher_predictions(self, batch: MicroBatch) -> Any:
        return batch.predict(self._teacher(), self.context.losses.bound, of=self._behind)

    def after_step(self, model: nn.Module) -> None:
        if self.weights == "ema":
            self._average.take_in(model)

    def state_dict(self) -> dict[str, Any]:
        average = {"average": self._average.state_dict()} if self.weights == "ema" else {}
        return super().state_dict() | average

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.weights == "ema":
            self._average.load_state_dict(state["average"])
