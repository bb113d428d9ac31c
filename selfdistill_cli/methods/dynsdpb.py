"""DynSDPB (arXiv 2411.16991): previous-batch self-distillation whose τ and α follow each prediction.

L = mean CE + mean_{i ∈ B_{t−1}} α_i · τ_i² · KL( p(z_i^prev; τ_i) ‖ p(z_i; τ_i) )
τ_i = τ(1 + u_i),  α_i = α·d_i  by default; the paper's public record does not fix the rules,
so they are chosen by name (see objectives.dynamic_temperature and dynamic_influence).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.methods.base import TrainingContext
from selfdistill_cli.methods.static_sd import StaticSD
from selfdistill_cli.step_data import StepPlan


class DynSDPB(StaticSD):
    """Static self-distillation with a temperature and an influence of its own for every example."""

    def __init__(
        self,
        context: TrainingContext,
        tau: float,
        alpha: float,
        overlap: str,
        start_epoch: float,
        tau_rule: str,
        alpha_rule: str,
        signal: str,
        granularity: str,
        discrimination: str,
    ) -> None:
        super().__init__(context, tau, alpha, overlap, start_epoch)
        self.tau_rule = tau_rule
        self.alpha_rule = alpha_rule
        self.signal = signal
        self.granularity = granularity
        self.discrimination = discrimination
        self._previous_signals: tuple[Tensor, Tensor] | None = None

    @property
    def needs_whole_step(self) -> bool:
        # u and d of this step's predictions, averaged over the batch: every loss waits for all logits.
        return self.signal == "current" and self.granularity == "batch"

    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan:
        plan = super().plan(fresh, epoch)
        if self.signal == "previous" and self._teacher is not None:
            self._previous_signals = self._signals(self._teacher, self.context.labels[list(plan.previous)])
        return plan

    def dynamics(self, rows: Tensor, student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if self.signal == "current":
            u, d = self._signals(student, labels)
        else:
            assert self._previous_signals is not None
            u, d = (signal[rows].to(student.device) for signal in self._previous_signals)
        tau = objectives.dynamic_temperature(self.tau_rule, self.tau, u, d)
        alpha = objectives.dynamic_influence(self.alpha_rule, self.alpha, u, d)
        return tau, alpha, {"uncertainty": u, "discrimination": d}

    def _signals(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """u and d of these predictions [k], or of their batch's mean, repeated [k]."""
        u = self.context.terms.uncertainty(logits, labels)
        d = self.context.terms.discrimination(logits, labels, self.discrimination)
        if self.granularity == "batch":
            u, d = u.mean().expand_as(u), d.mean().expand_as(d)
        return u, d

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._previous_signals = None  # made again by the next plan
