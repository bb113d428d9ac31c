"""Self-distillation from the previous mini-batch (DLB, arXiv 2203.16172), with constant τ and α.

    L = mean_{i ∈ B_{t−1} ∪ B_t} CE(z_i, y_i)  +  α · mean_{i ∈ B_{t−1}} τ² · KL( p(z_i^prev; τ) ‖ p(z_i; τ) )

A step forwards the fresh examples and again those of the step before. What these got when they were
fresh, one optimizer step ago, is the teacher. In generation an example's distribution is its vocabulary map m_i (VMM,
arXiv 2411.16991), and with `overlap=none` nothing is forwarded twice: τ² · KL(mean m^prev(τ) ‖ mean m(τ)).

With `outputs=sampled` m_i^prev is the map of an answer that the model drew freely one step ago, without dropout, and
m_i that of the gold answer: answers of different lengths, which only their maps can compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selfdistill_cli.engine.method import Examples, MicroBatch, PerExampleLoss, StepPlan
from selfdistill_cli.engine.predictions import rows_of
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.losses.base import Comparison
from selfdistill_cli.methods.base import Method, TrainingContext


class StaticSD(Method):
    """Distil each example's logits of one step ago into the model of now."""

    def __init__(
        self,
        context: TrainingContext,
        tau: float,
        alpha: float,
        overlap: str,
        match: str,
        regression: str,
        start_epoch: float,
        outputs: str = "gold",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(context)
        self.tau = tau
        self.alpha = alpha
        self.overlap = overlap
        self.compared = Comparison(match, regression)
        self.start_epoch = start_epoch
        self.temperature = temperature
        self.writer = context.writer() if outputs == "sampled" else None
        self.drawings = 0
        """How many there have been, with `outputs=sampled`."""
        self._previous: list[int] = []
        self._teacher: Any = None  # predictions of `_previous`, in its order
        self._drawn: Any = None  # with `outputs=sampled`, predictions at this step's drawn answers

    @property
    def begins_at(self) -> float:
        return self.start_epoch

    @property
    def needs_whole_step(self) -> bool:
        # With no example in common, batches are compared as wholes: the map of this one is known at its end.
        return self.overlap == "none"

    @property
    def previous_per_step(self) -> int:
        """How many examples of the step before are kept, at most.

        `half`: the batch size counts both parts; of an odd one the fresh part gets the extra example, so
        one of the fresh examples finds no room in the next step.
        """
        return self.context.batch_size // 2 if self.overlap == "half" else self.context.batch_size

    @property
    def fresh_per_step(self) -> int:
        return self.context.batch_size - self.previous_per_step if self.overlap == "half" else self.context.batch_size

    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan:
        return StepPlan(fresh, epoch, previous=() if self.overlap == "none" else tuple(self._previous))

    def before_forward(self, plan: StepPlan) -> Examples | None:
        self._drawn = None
        steps_per_epoch = -(-self.context.examples // self.fresh_per_step)
        if self.writer is None or plan.epoch + 1 / steps_per_epoch < self.start_epoch - 1e-9:
            return None  # the next step does not act yet either
        rows = self._kept(plan)
        answers = self.writer.draw(rows, self.drawings, self.temperature)
        self.drawings += 1
        self._drawn = self.writer.predict(self.writer.examples(answers), rows, lambda predicted: predicted)
        return None

    def _kept(self, plan: StepPlan) -> list[int]:
        """The examples of this step that the next one looks back at."""
        return list(plan.fresh[: self.previous_per_step])

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        plan, losses = batch.plan, self.context.losses
        repeated = batch.repeated
        compares = self._teacher is not None and (self.overlap == "none" or len(repeated) > 0)
        if plan.epoch < self.start_epoch or not compares:
            ce = losses.supervised(logits, batch) / len(plan.examples)
            return PerExampleLoss(ce, {"ce": ce, "kd": torch.zeros_like(ce)})
        signals_of: Tensor | None = None
        if self.overlap == "none":
            tau, alpha, signals = self.dynamics(self._teacher, logits.detach(), batch.examples)
            supervised, kd = losses.between_batches(logits, batch, self._teacher, tau[0])
            kd = alpha[0] * kd
        else:
            teacher = rows_of(self._teacher, batch.positions_on_host[repeated] - len(plan.fresh))
            places, student = on_device(repeated, batch.examples.device), rows_of(logits, repeated).detach()
            signals_of = batch.examples[places]
            tau, alpha, signals = self.dynamics(teacher, student, signals_of)
            supervised, divergence = losses.from_previous(logits, batch, repeated, teacher, tau, self.compared)
            kd = torch.zeros_like(supervised).index_put((places,), alpha * divergence / len(plan.previous))
        ce = supervised / len(plan.examples)
        return PerExampleLoss(ce + kd, {"ce": ce, "kd": kd}, {"tau": tau, "alpha": alpha, **signals}, signals_of)

    def dynamics(self, teacher: Any, student: Any, examples: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """τ_i and α_i of the k previous examples, and the signals that they follow, to be logged [k] each.

        `teacher` and `student` are the previous and this step's predictions of them, `examples` [k] their row numbers.
        With `overlap=none` those of the whole batches, and τ and α are the same for all.
        """
        ones = torch.ones(len(teacher), device=student.device)
        return self.tau * ones, self.alpha * ones, {}

    def after_backward(self, plan: StepPlan, logits: Any) -> None:
        self._previous = self._kept(plan)
        kept = logits[: len(self._previous)] if self.writer is None else self._drawn
        self._teacher = None if kept is None else self.context.losses.snapshot(kept.to(self.context.device))

    def state_dict(self) -> dict[str, Any]:
        state = {"previous": self._previous, "teacher": self.context.losses.to_state(self._teacher)}
        return state if self.writer is None else {**state, "drawings": self.drawings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._previous = list(state["previous"])
        kept = self.context.losses.from_state(state["teacher"])
        self._teacher = None if kept is None else kept.to(self.context.device)
        self.drawings = state.get("drawings", 0)
