"""Drives a method through steps with given logits, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from selfdistill_cli.losses.labelled import ClassificationLosses, RegressionLosses
from selfdistill_cli.methods import Method, MicroBatch, PerExampleLoss, StepPlan, TrainingContext

CLASSES = 3
SIZE = 24
generator = np.random.default_rng(7)
LABELS = generator.integers(0, CLASSES, SIZE)
TARGETS = generator.uniform(0, 5, SIZE).astype(np.float32)
TEACHER = (2 * generator.normal(size=(SIZE, CLASSES))).astype(np.float32)
REGRESSION_TEACHER = (TARGETS + generator.normal(size=SIZE)).astype(np.float32)


def classification(batch_size: int = 8) -> TrainingContext:
    """A context with integer labels and a teacher."""
    return TrainingContext(
        ClassificationLosses(), SIZE, torch.from_numpy(LABELS), batch_size, torch.from_numpy(TEACHER)
    )


def regression() -> TrainingContext:
    """A context with float targets between 0 and 5 and a teacher."""
    return TrainingContext(
        RegressionLosses(5.0), SIZE, torch.from_numpy(TARGETS), 8, torch.from_numpy(REGRESSION_TEACHER)
    )


def loss_of(
    method: Method, plan: StepPlan, logits: Tensor, cuts: Sequence[Sequence[int]] | None = None
) -> list[PerExampleLoss]:
    """The method's losses of a step whose examples have these logits, cut into micro-batches of positions."""
    rows = torch.tensor(plan.examples)
    losses = []
    for positions in cuts or [range(len(rows))]:
        where = torch.tensor(list(positions))
        batch = MicroBatch(plan, where, rows[where], method.context.labels_of(rows[where]))
        losses.append(method.loss(logits[where], batch))
    return losses


def total(losses: list[PerExampleLoss]) -> float:
    """The step's loss."""
    return float(sum(loss.total.sum() for loss in losses))


def random_logits(n: int, seed: int, regression: bool = False) -> Tensor:
    """Logits [n, C], or predictions [n]."""
    drawn = torch.randn(n, CLASSES, generator=torch.Generator().manual_seed(seed)) * 2
    return drawn[:, 0] + 2.5 if regression else drawn


BATCH = [3, 1, 4, 15, 9, 2]
"""Rows of a step."""
Z = random_logits(6, seed=1)
"""Its logits."""
