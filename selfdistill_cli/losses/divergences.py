"""Divergences between a teacher's and a student's distribution, by name (GKD, Agarwal et al., arXiv 2306.13649).

forward_kl   KL(p_T ‖ p_θ)
reverse_kl   KL(p_θ ‖ p_T)
jsd          β · KL(p_T ‖ m) + (1 − β) · KL(p_θ ‖ m),    m = β · p_T + (1 − β) · p_θ
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measure:
    """One of them, as a function of logits."""

    name: str
    """`forward_kl`, `reverse_kl` or `jsd`. Raises `ValueError` on another one when it is called."""
    beta: float
    """β of `jsd`, in (0, 1): divided by β it tends to `forward_kl` as β falls to 0, by 1 − β to `reverse_kl` at 1."""

    def __call__(self, teacher: Tensor, student: Tensor) -> Tensor:
        """D(p_T, p_θ) in nats. Logits teacher [n, V] (receives no gradient), student [n, V] -> [n], ≥ 0."""
        log_p, log_q = _log_softmax(teacher.detach()), _log_softmax(student)
        if self.name == "forward_kl":
            found = _kl(log_p, log_q)
        elif self.name == "reverse_kl":
            found = _kl(log_q, log_p)
        elif self.name == "jsd":
            log_m = torch.logaddexp(log_p + math.log(self.beta), log_q + math.log1p(-self.beta))
            found = self.beta * _kl(log_p, log_m) + (1 - self.beta) * _kl(log_q, log_m)
        else:
            raise ValueError(f"unknown divergence {self.name!r}")
        return found.clamp_min(0)  # rounding can push that of nearly equal distributions just below zero


def _log_softmax(logits: Tensor) -> Tensor:
    found = torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return found.clamp_min(-1e30)  # of entries that a model rules out (−∞), whose differences would be no numbers


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) along the last axis."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
