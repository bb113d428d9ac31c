"""Metrics of labels as `evaluate.Metric` classes: no script is downloaded, no network needed.

GLUE's and SuperGLUE's, and what people score their own files by, as scikit-learn defines it. Which way is better says
config/metrics.py. Importing this module takes seconds (`evaluate`), so it is done when the first score is wanted.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf
from scipy import stats
from sklearn import metrics as sklearn_metrics

from selfdistill_cli.config.metrics import LOSS
from selfdistill_cli.tasks.data import TaskData
from selfdistill_cli.tasks.split import Split


class LocalMetric(evaluate.Metric):
    """A metric over predictions and references of one type, computed in memory."""

    value_type: ClassVar[str] = "int64"
    more_columns: ClassVar[dict[str, Any]] = {}

    def _info(self) -> evaluate.MetricInfo:
        columns = {"predictions": Value(self.value_type), "references": Value(self.value_type), **self.more_columns}
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description=", ".join(columns),
            features=Features(columns),
        )


class Accuracy(LocalMetric):
    """Share of right predictions."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(sklearn_metrics.accuracy_score(references, predictions))}


class BalancedAccuracy(LocalMetric):
    """Mean over the classes that the split holds of the share of their examples that is found."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        with warnings.catch_warnings():  # a class may be predicted that the split does not hold
            warnings.simplefilter("ignore", UserWarning)
            return {"balanced_accuracy": float(sklearn_metrics.balanced_accuracy_score(references, predictions))}


OF_CLASSES = {
    "f1": sklearn_metrics.f1_score,
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
}
"""scikit-learn's functions; 0 where nothing is predicted, or nothing is there."""


class OfClassOne(LocalMetric):
    """F1, precision or recall of class 1 of two (MRPC, QQP; MultiRC's F1 over all answers)."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        function = OF_CLASSES[self.config_name]
        of_one = function(references, predictions, labels=[1], average="micro", zero_division=0)
        return {self.config_name: float(of_one)}


class Macro(LocalMetric):
    """Mean of the classes' F1 (CB), precision or recall; of the classes that are there or predicted."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        function = OF_CLASSES[self.config_name.removeprefix("macro_")]
        return {self.config_name: float(function(references, predictions, average="macro", zero_division=0))}


class Matthews(LocalMetric):
    """Matthews correlation (CoLA, AX-b); 0 if all predictions are the same."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"matthews": float(sklearn_metrics.matthews_corrcoef(references, predictions))}


class Auroc(LocalMetric):
    """Area under the ROC curve of the probability of class 1; of more classes the mean of one against the rest.

    Classes that the split does not hold are left out of the mean.
    """

    more_columns: ClassVar[dict[str, Any]] = {"probabilities": ListOf(Value("float64"))}

    def _compute(self, predictions: Any, references: Any, probabilities: Any) -> dict[str, float]:
        labels, p = np.asarray(references), np.asarray(probabilities)
        present = [1] if p.shape[1] == 2 else np.unique(labels)
        areas = [sklearn_metrics.roc_auc_score(labels == number, p[:, number]) for number in present]
        return {"auroc": float(np.mean(areas))}


class ExactMatch(LocalMetric):
    """Share of groups of which every example is right (MultiRC's exact match over questions)."""

    more_columns: ClassVar[dict[str, Any]] = {"groups": Value("string")}

    def _compute(self, predictions: Any, references: Any, groups: Any) -> dict[str, float]:
        right: dict[str, bool] = {}
        for group, prediction, reference in zip(groups, predictions, references, strict=True):
            right[group] = right.get(group, True) and prediction == reference
        return {"exact_match": float(np.mean(list(right.values())))}


class Correlation(LocalMetric):
    """Pearson's or Spearman's correlation (STS-B)."""

    value_type: ClassVar[str] = "float64"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        # Undefined if either side is constant; a model that always says the same orders nothing, so 0.
        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return {self.config_name: 0.0}
        function = stats.pearsonr if self.config_name == "pearson" else stats.spearmanr
        return {self.config_name: float(function(predictions, references).statistic)}


class MeanError(LocalMetric):
    """Mean squared error, or mean absolute error, in the labels' own unit."""

    value_type: ClassVar[str] = "float64"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        squared = self.config_name == "mse"
        function = sklearn_metrics.mean_squared_error if squared else sklearn_metrics.mean_absolute_error
        return {self.config_name: float(function(references, predictions))}


METRICS: dict[str, type[LocalMetric]] = {
    "accuracy": Accuracy,
    "balanced_accuracy": BalancedAccuracy,
    "f1": OfClassOne,
    "precision": OfClassOne,
    "recall": OfClassOne,
    "macro_f1": Macro,
    "macro_precision": Macro,
    "macro_recall": Macro,
    "matthews": Matthews,
    "auroc": Auroc,
    "exact_match": ExactMatch,
    "pearson": Correlation,
    "spearman": Correlation,
    "mse": MeanError,
    "mae": MeanError,
}


def score(
    task: TaskData, split: Split, predictions: np.ndarray, probabilities: np.ndarray | None = None
) -> dict[str, float]:
    """The task's metrics of these predictions [N] (class numbers, or floats in regression), but for the loss.

    probabilities: of the classes [N, C], where there are classes.
    """
    scores: dict[str, float] = {}
    for name in task.metrics:
        if name == LOSS:  # of the model's own losses: whoever asks has computed it
            continue
        metric = METRICS[name](config_name=name, keep_in_memory=True)
        known = {"groups": split.groups, "probabilities": probabilities}
        more = {column: known[column] for column in metric.more_columns}
        scores |= metric.compute(predictions=predictions, references=split.labels, **more)
    return scores
