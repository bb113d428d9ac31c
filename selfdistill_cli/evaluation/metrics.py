"""GLUE's and SuperGLUE's metrics as `evaluate.Metric` classes: no script is downloaded, no network needed.

Larger is better for all of them. Importing this module takes seconds (`evaluate`), so it is done when
the first score is wanted.
"""

from __future__ import annotations

from typing import Any, ClassVar

import evaluate
import numpy as np
from datasets import Features, Value
from scipy import stats
from sklearn import metrics as sklearn_metrics

from selfdistill_cli.tasks.data import TaskData
from selfdistill_cli.tasks.split import Split


class LocalMetric(evaluate.Metric):
    """A metric over predictions and references of one type, computed in memory."""

    value_type: ClassVar[str] = "int64"
    more_columns: ClassVar[dict[str, str]] = {}

    def _info(self) -> evaluate.MetricInfo:
        columns = {"predictions": self.value_type, "references": self.value_type, **self.more_columns}
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description=", ".join(columns),
            features=Features({name: Value(kind) for name, kind in columns.items()}),
        )


class Accuracy(LocalMetric):
    """Share of right predictions."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(sklearn_metrics.accuracy_score(references, predictions))}


class F1(LocalMetric):
    """F1 of class 1 (MRPC, QQP; MultiRC's F1 over all answers)."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            "f1": float(sklearn_metrics.f1_score(references, predictions, labels=[1], average="micro", zero_division=0))
        }


class MacroF1(LocalMetric):
    """Mean of the classes' F1 (CB)."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"macro_f1": float(sklearn_metrics.f1_score(references, predictions, average="macro", zero_division=0))}


class Matthews(LocalMetric):
    """Matthews correlation (CoLA, AX-b); 0 if all predictions are the same."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"matthews": float(sklearn_metrics.matthews_corrcoef(references, predictions))}


class ExactMatch(LocalMetric):
    """Share of groups of which every example is right (MultiRC's exact match over questions)."""

    more_columns: ClassVar[dict[str, str]] = {"groups": "string"}

    def _compute(self, predictions: Any, references: Any, groups: Any) -> dict[str, float]:
        right: dict[str, bool] = {}
        for group, prediction, reference in zip(groups, predictions, references, strict=True):
            right[group] = right.get(group, True) and prediction == reference
        return {"exact_match": float(np.mean(list(right.values())))}


class Pearson(LocalMetric):
    """Pearson correlation (STS-B)."""

    value_type: ClassVar[str] = "float64"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"pearson": _correlation(stats.pearsonr, predictions, references)}


class Spearman(LocalMetric):
    """Spearman rank correlation (STS-B)."""

    value_type: ClassVar[str] = "float64"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"spearman": _correlation(stats.spearmanr, predictions, references)}


def _correlation(function: Any, predictions: Any, references: Any) -> float:
    # Undefined if either side is constant; a model that always says the same orders nothing, so 0.
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    return float(function(predictions, references).statistic)


METRICS: dict[str, type[LocalMetric]] = {
    "accuracy": Accuracy,
    "f1": F1,
    "macro_f1": MacroF1,
    "matthews": Matthews,
    "exact_match": ExactMatch,
    "pearson": Pearson,
    "spearman": Spearman,
}


def score(task: TaskData, split: Split, predictions: np.ndarray) -> dict[str, float]:
    """The task's metrics of these predictions [N] (class numbers, or floats in regression)."""
    scores: dict[str, float] = {}
    for name in task.metrics:
        metric = METRICS[name](keep_in_memory=True)
        more = {"groups": split.groups} if "groups" in metric.more_columns else {}
        scores |= metric.compute(predictions=predictions, references=split.labels, **more)
    return scores
