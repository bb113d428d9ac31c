"""How far a run has come, and what it leaves when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from omegaconf import DictConfig
from torch import nn


@dataclass
class Progress:
    """How far a run has come; part of every checkpoint."""

    step: int = 0
    examples_forwarded: int = 0
    tokens: int = 0
    """Forwarded in training, without padding."""
    seconds: float = 0.0
    step_seconds: float = 0.0
    """Of the training steps alone."""
    checkpoint_seconds: float = 0.0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """By phase, with `runtime.profile`."""
    flops_per_token: float | None = None
    """Floating-point operations of the matrix products of a step for each token, counted on the first step."""
    best_score: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] | None = None
    last_metrics: dict[str, float] | None = None
    evaluations_without_gain: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class Scores:
    """What one evaluation found on the validation splits."""

    metrics: dict[str, float]
    """The task's metrics and the mean supervised loss; splits after the first carry their name."""
    score: float
    """The task's main metric on the split that selects; larger is better."""
    signals: dict[str, float]
    """How well a prediction's signals tell whether it is right, on the split that selects."""


class Scorer(Protocol):
    """What scores the model while it trains."""

    def scores(self, model: nn.Module) -> Scores:
        """The task's metrics, and what the signals of the predictions are worth.

        Raises `FloatingPointError` if a prediction is not a finite number.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """What a finished loop leaves: the chosen weights are in the model."""

    progress: Progress
    steps_per_epoch: int
    final_metrics: dict[str, float]


def total_steps(schedule: DictConfig, steps_per_epoch: int) -> int:
    """Optimizer steps of a run: `max_steps`, else `epochs`, of which a fraction of a step is finished."""
    if schedule.max_steps is not None:
        return int(schedule.max_steps)
    return math.ceil(round(schedule.epochs * steps_per_epoch, 6))
