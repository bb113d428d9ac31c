"""What gkd and sdft share: the student learns a teacher's distributions along answers that it drew itself.

    ŷ ~ p_θ(· | x; temperature)        L = mean_i (1/S_i) Σ_s D( p_T(· | x, ŷ_<s), p_θ(· | x, ŷ_<s) )

No gradient goes through the drawing. What D may be: losses/divergences.py.
"""

from __future__ import annotations

from typing import Any

from selfdistill_cli.engine.method import Drawn, Examples, MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.losses.divergences import Measure
from selfdistill_cli.methods.base import Method, TrainingContext


class OnDrawnAnswers(Method):
    """Subclasses say which steps draw, and whose predictions are learned."""

    def __init__(self, context: TrainingContext, temperature: float, divergence: str, beta: float) -> None:
        super().__init__(context)
        self.temperature = temperature
        self.measure = Measure(divergence, beta)
        self.writer = context.writer()
        self.steps = 0
        """How many have been begun: the number of the drawing that is next."""
        self.drawn: Drawn | None = None
        """The answers of this step; None: the gold ones."""

    def draws(self, number: int) -> bool:
        """Whether step `number` (from 0) uses drawn answers."""
        return True

    def teacher_predictions(self, batch: MicroBatch) -> Any:
        """What is learned: predictions of this micro-batch's examples, at the answers of this step."""
        raise NotImplementedError

    def before_forward(self, plan: StepPlan) -> Examples | None:
        number, self.steps = self.steps, self.steps + 1
        self.drawn = self.writer.draw(plan.examples, number, self.temperature) if self.draws(number) else None
        return None if self.drawn is None else self.writer.examples(self.drawn)

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        divergence = self.context.losses.divergence(logits, batch, self.teacher_predictions(batch), self.measure)
        total = divergence / len(batch.plan.examples)
        signals = {} if self.drawn is None else {"drawn_tokens": logits.sizes}
        return PerExampleLoss(total, {"divergence": total}, signals, batch.examples if signals else None)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
