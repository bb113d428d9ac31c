"""DynSDPB (arXiv 2411.16991): previous-batch self-distillation whose τ and α follow each prediction.

L = mean CE + mean_{i ∈ B_{t−1}} α_i · τ_i² · KL( p(z_i^prev; τ_i) ‖ p(z_i; τ_i) )
τ_i = τ(1 + u_i),  α_i = α·d_i  by default; the paper's public record does not fix the rules,
so they are chosen by name (see objectives.dynamic_temperature and dynamic_influence).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.method import StepPlan
from selfdistill_cli.engine.predictions import rows_of
from selfdistill_cli.methods.base import TrainingContext
from selfdistill_cli.methods.static_sd import StaticSD


class DynSDPB(StaticSD):
    """Static self-distillation with a temperature and an influence of its own for every example."""

    def __init__(
        self,
        context: TrainingContext,
        tau: float,
        alpha: float,
        overlap: str,
        match: str,
        regression: str,
        start_epoch: float,
        tau_rule: str,
        alpha_rule: str,
        signal: str,
        granularity: str,
        discrimination: str,
        outputs: str = "gold",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(context, tau, alpha, overlap, match, regression, start_epoch, outputs, temperature)
        self.tau_rule = tau_rule
        self.alpha_rule = alpha_rule
        self.signal = signal
        self.granularity = granularity
        self.discrimination = discrimination
        self._batch_signals: tuple[Tensor, Tensor] | None = None
        self._of_gold: Tensor | None = None  # d of the previous batch's gold answers, where the teacher's are drawn [N]

    @property
    def needs_whole_step(self) -> bool:
        # u and d of this step's predictions, averaged over the batch: every loss waits for all logits.
        return super().needs_whole_step or (self.signal == "current" and self._one_for_all)

    @property
    def _one_for_all(self) -> bool:
        """Whether u and d are averaged over the batch. What no rule reads is logged as it is of each example."""
        constant = self.tau_rule == self.alpha_rule == "constant"
        return self.overlap == "none" or (self.granularity == "batch" and not constant)

    def dynamics(self, teacher: Any, student: Any, examples: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if self.signal == "current":
            u, d = self._signals(student, examples, None)
        elif self._one_for_all:
            u, d = self._previous_batch_signals()
        else:
            u, d = self._signals(teacher, examples, self._of_gold)
        if self._one_for_all:
            u, d = u[:1].expand(len(teacher)), d[:1].expand(len(teacher))
        tau = objectives.dynamic_temperature(self.tau_rule, self.tau, u, d)
        alpha = objectives.dynamic_influence(self.alpha_rule, self.alpha, u, d)
        return tau, alpha, {"uncertainty": u, "discrimination": d}

    def _previous_batch_signals(self) -> tuple[Tensor, Tensor]:
        """Those of the whole previous batch, read off once a step."""
        if self._batch_signals is None:
            self._batch_signals = self._signals(self._teacher, torch.tensor(self._previous), self._of_gold)
        return self._batch_signals

    def _signals(self, predictions: Any, examples: Tensor, of_gold: Tensor | None) -> tuple[Tensor, Tensor]:
        """u and d of the predictions of these examples [k], or their mean over the batch, repeated [k].

        of_gold: d of the previous examples [N], in place of that of answers that were drawn.
        """
        labels = self.context.labels_of(examples)
        u, d = self.context.losses.signals(predictions, labels, self.discrimination)
        if of_gold is not None:
            d = rows_of(of_gold, examples)
        if self._one_for_all:
            u, d = u.mean().expand_as(u), d.mean().expand_as(d)
        return u, d

    def after_backward(self, plan: StepPlan, logits: Any) -> None:
        super().after_backward(plan, logits)
        self._batch_signals = None
        if self.writer is not None and self.discrimination == "gold":
            # A drawn answer has no gold tokens: what singles them out is this step's pass over the gold answer.
            gold = logits[: len(self._previous)].to(self.context.device)
            self._remember(self.context.losses.signals(gold, None, self.discrimination)[1])

    def _remember(self, of_gold: Tensor) -> None:
        """Keep d of the previous examples' gold answers [k]."""
        previous = torch.tensor(self._previous).to(of_gold.device)
        self._of_gold = of_gold.new_zeros(self.context.examples).index_put((previous,), of_gold)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self._of_gold is None else {**state, "discrimination": self._of_gold[self._previous]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._batch_signals = None
        if "discrimination" in state:
            self._remember(state["discrimination"].to(self.context.device))
