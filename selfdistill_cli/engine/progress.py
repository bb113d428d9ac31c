"""How far a run has come, and what it leaves when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from omegaconf import DictConfig
from torch import nn

FLANK = 50
"""Steps at the beginning and the end of a run whose losses are compared, or a tenth of all."""
FEWEST = 2
"""Fewer losses than these say nothing."""
FAR_ABOVE = 2.0
"""Times the loss of the beginning."""


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
    compute: dict[str, Any] = field(default_factory=dict)
    """What the run has computed: the state of `engine.compute.Compute`."""
    main: str = ""
    """The metric that selects."""
    best_score: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] | None = None
    last_metrics: dict[str, float] | None = None
    early_score: float | None = None
    early_step: int = 0
    """The best evaluation from before the method began, which is not chosen."""
    evaluations_without_gain: int = 0
    stopped_early: bool = False
    last_remarks: list[str] = field(default_factory=list)
    best_remarks: list[str] = field(default_factory=list)
    """Of the last and of the best evaluation."""
    first_losses: list[float] = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)
    """Of the first training steps and of the last ones, `FLANK` each at most."""

    def stepped(self, examples: int, tokens: int) -> None:
        """Count a training step."""
        self.step += 1
        self.examples_forwarded += examples
        self.tokens += tokens

    def saw(self, seconds: float, loss: float) -> None:
        """Take note of what a training step took and found: later than `stepped`, where that had to be fetched."""
        self.step_seconds += seconds
        if len(self.first_losses) < FLANK:
            self.first_losses.append(loss)
        self.recent_losses = [*self.recent_losses[1 - FLANK :], loss]

    def rise(self) -> str | None:
        """In words, that the training loss ended far above where it began; None if it did not, or after few steps."""
        few = min(FLANK, self.step // 10)
        if few < FEWEST:
            return None
        began, ended = fmean(self.first_losses[:few]), fmean(self.recent_losses[-few:])
        if ended <= FAR_ABOVE * began:
            return None
        return f"the training loss ended at {ended:.4g}, far above the {began:.4g} where it began"


@dataclass(frozen=True)
class Scores:
    """What one evaluation found on the validation splits."""

    metrics: dict[str, float]
    """The task's metrics and the mean supervised loss; splits after the first carry their name."""
    main: str
    """The task's main metric, one of `metrics`: the one that selects."""
    signals: dict[str, float]
    """How well a prediction's signals tell whether it is right, on the split that selects."""
    remarks: list[str] = field(default_factory=list)
    """What a person should hear at once, in words."""
    writing: dict[str, float] = field(default_factory=dict)
    """`writing/<name>` of written answers: how varied and how long they are, on the split that selects."""

    @property
    def score(self) -> float:
        """The main metric on the split that selects."""
        return self.metrics[self.main]


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
    remarks: list[str]
    """What a person should know of these weights and of the training, in words."""


def total_steps(schedule: DictConfig, steps_per_epoch: int) -> int:
    """Optimizer steps of a run: `max_steps`, else `epochs`, of which a fraction of a step is finished."""
    if schedule.max_steps is not None:
        return int(schedule.max_steps)
    return math.ceil(round(schedule.epochs * steps_per_epoch, 6))
