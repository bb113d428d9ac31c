"""What a classifier's scores stand beside: the score of always saying the same, and whether the model does."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfdistill_cli.config.metrics import LOSS
from selfdistill_cli.tasks import Split, TaskData


def majority_score(task: TaskData) -> dict[str, Any] | None:
    """The main metric, on the reported split, of always predicting the training split's most frequent class.

    `label` is that class's name, `score` the value. None where there are no classes, no training examples (another
    task's validation split), or the metric is a loss, which is infinite then.
    """
    if not task.kind.has_classes or not len(task.train) or task.metric == LOSS:
        return None
    from selfdistill_cli.evaluation.metrics import score  # seconds to import

    split = task.validation[0]
    most = int(np.bincount(task.train.labels, minlength=len(task.label_names)).argmax())
    always = np.full(len(split), most)
    probabilities = np.eye(len(task.label_names))[always]
    return {"label": task.label_names[most], "score": score(task, split, always, probabilities)[task.metric]}


def one_class_alone(task: TaskData, split: Split, predictions: np.ndarray) -> str | None:
    """In words, that every prediction [N] is the same class though the split holds several; None if it is not so."""
    if np.ptp(predictions) > 0 or np.ptp(split.labels) == 0:
        return None
    name = task.label_names[int(predictions[0])]
    share = float(np.mean(split.labels == predictions[0]))
    return f"the model predicts '{name}' for all {len(split):,} examples of {split.name} ({share:.1%} of them are)"
