"""A run's metric as a function of sums over validation examples, so that a bootstrap is one matrix product.

Every metric here but AUROC is g(Σ_i w_i φ_i) with features φ_i [k] of the examples and counts w_i: 1 each gives the metric,
multinomial counts give a bootstrap replicate. Ranks (Spearman) are those of the whole split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import compute, parquet

WIDE = 16
"""Features of classes that are more columns than these are kept sparse."""


@dataclass(frozen=True)
class Scored:
    """The predictions of one run on one split, ready to be weighed."""

    index: np.ndarray
    """Row numbers of the examples in the source [n], ascending."""
    features: Any
    """φ [n, k]: an array, of one byte where they are 0 or 1; of many classes SciPy's sparse array, with n ones a class's
    number: so the memory is that of the predictions themselves."""
    form: str
    """Which g: `mean`, `correlation`, or a metric of classes by its name; `auroc`, whose features are no summands."""

    def value(self, counts: np.ndarray) -> np.ndarray:
        """The metric under each row of counts. [B, n] -> [B]."""
        if self.form == "auroc":  # pairs of examples are counted: no function of sums
            return _auroc(counts, self.features)
        return self.of_sums(np.asarray(counts @ self.features), counts.sum(1))

    @property
    def apart(self) -> bool:
        """Whether it is weighed by itself: in one product with others its features would be dense, or there are no sums."""
        return self.form == "auroc" or not isinstance(self.features, np.ndarray)

    def of_sums(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The metric from Σ_i w_i φ_i [B, k] and Σ_i w_i [B]; not for `auroc`."""
        found: np.ndarray = _FORMS[self.form](sums, n)
        return found


def scored(path: Path, metric: str) -> Scored | None:
    """The predictions in a parquet file for a metric; None if it cannot be computed again (F1 of texts, ROUGE, groups, loss)."""
    table = read_predictions(path, leave_out=() if metric == "auroc" else ("logits",))
    order = np.argsort(table["index"], kind="stable")
    columns = {name: values[order] for name, values in table.items()}
    made = _features(columns, metric)
    return None if made is None else Scored(_same_array(columns["index"].astype(np.int64).tobytes()), *made)


@lru_cache(maxsize=64)
def _same_array(content: bytes) -> np.ndarray:
    """One array for all runs on the same examples: a thousand of 40,000 would take 300 MB."""
    return np.frombuffer(content, dtype=np.int64)


def _features(columns: dict[str, np.ndarray], metric: str) -> tuple[np.ndarray, str] | None:
    if "correct" in columns:
        return (columns["correct"].astype(np.uint8)[:, None], "mean") if metric == "exact_match" else None
    prediction, label = columns["prediction"], columns["label"]
    if metric == "accuracy":
        return (prediction == label).astype(np.uint8)[:, None], "mean"
    if metric in OF_CLASSES:
        return _of_classes(label.astype(int), prediction.astype(int)), metric
    if metric == "auroc" and "logits" in columns:
        return _ranks(columns["logits"], label), metric
    if metric in ("mse", "mae"):
        error = np.abs(prediction.astype(np.float64) - label)
        return (error**2 if metric == "mse" else error)[:, None], "mean"
    if metric in ("pearson", "spearman"):
        from scipy.stats import rankdata

        x, y = (rankdata(v) if metric == "spearman" else v.astype(np.float64) for v in (prediction, label))
        x, y = x - x.mean(), y - y.mean()  # for precision
        return np.stack([x, y, x * x, y * y, x * y], axis=1), "correlation"
    return None


def _of_classes(label: np.ndarray, prediction: np.ndarray) -> Any:
    """By class, which examples are of it, which are predicted to be, and which are both: all that these metrics need.

    label, prediction [n] -> [n, 3 · classes].
    """
    from scipy.sparse import csr_array

    classes, n = int(max(prediction.max(), label.max())) + 1, len(label)
    hits = np.flatnonzero(label == prediction)
    rows = np.concatenate([np.arange(n), np.arange(n), hits])
    columns = np.concatenate([label, classes + prediction, 2 * classes + label[hits]])
    found = csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, 3 * classes))
    return found if 3 * classes > WIDE else found.toarray().astype(np.uint8)


def _ranks(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Of class 1 of two, or of each class that is there: ranks of its probability (ties share one), and who is of it.

    logits [n, C], label [n] -> [n, 2 · classes].
    """
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    if logits.shape[1] == 2:
        values = {1: logits[:, 1] - logits[:, 0]}  # orders as the probability does, without its rounding
    else:
        values = {int(c): log_p[:, c] for c in np.unique(label)}
    columns = [(np.unique(of, return_inverse=True)[1], label == c) for c, of in values.items()]
    return np.stack([column for pair in columns for column in pair], axis=1).astype(float)


def _auroc(counts: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Mean over classes of the share of pairs in which the class's example has the larger probability, ties half [B]."""
    areas = []
    for rank, own in zip(features.T[::2], features.T[1::2], strict=True):
        order = np.argsort(rank, kind="stable")
        starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
        inside, outside = (
            np.add.reduceat((counts * member)[:, order], starts, axis=1) for member in (own > 0, own == 0)
        )
        below = outside.cumsum(1) - outside / 2
        pairs = inside.sum(1) * outside.sum(1)
        areas.append(np.where(pairs > 0, _ratio((inside * below).sum(1), pairs), 0.5))
    return np.mean(areas, axis=0)


def _mean(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    return sums[:, 0] / n


def _counts(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and hits of each class [B, C]."""
    labels, predictions, hits = np.split(sums, 3, axis=1)
    return labels, predictions, hits


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.zeros_like(top, dtype=float), where=bottom > 0)


def _by_class(metric: str, sums: np.ndarray) -> np.ndarray:
    """F1, precision or recall of each class [B, C]; 0 where nothing is predicted, or nothing is there."""
    labels, predictions, hits = _counts(sums)
    if metric == "f1":
        return _ratio(2 * hits, labels + predictions)
    return _ratio(hits, predictions if metric == "precision" else labels)


def _of_class_one(metric: str, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    values = _by_class(metric, sums)
    return values[:, 1] if values.shape[1] > 1 else np.zeros(len(values))


def _macro(metric: str, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    labels, predictions, _ = _counts(sums)
    present = (labels + predictions) > 0
    return _ratio((_by_class(metric, sums) * present).sum(1), present.sum(1).astype(float))


def _balanced_accuracy(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    present = _counts(sums)[0] > 0
    return _ratio((_by_class("recall", sums) * present).sum(1), present.sum(1).astype(float))


def _matthews(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    labels, predictions, hits = _counts(sums)
    top = hits.sum(1) * n - (labels * predictions).sum(1)
    bottom = np.sqrt((n**2 - (predictions**2).sum(1)) * (n**2 - (labels**2).sum(1)))
    return _ratio(top, bottom)


def _correlation(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = (sums[:, i] / n for i in range(5))
    return _ratio(xy - x * y, np.sqrt(np.clip((xx - x * x) * (yy - y * y), 0, None)))


OF_CLASSES: dict[str, Any] = {
    "balanced_accuracy": _balanced_accuracy,
    "matthews": _matthews,
    **{metric: partial(_of_class_one, metric) for metric in ("f1", "precision", "recall")},
    **{f"macro_{metric}": partial(_macro, metric) for metric in ("f1", "precision", "recall")},
}
"""Metrics of class numbers, as functions of each class's labels, predictions and hits."""
_FORMS: dict[str, Any] = {"mean": _mean, "correlation": _correlation, **OF_CLASSES}


FOR_PEOPLE = ("text", "text_pair", "prompt", "answer", "references", "prediction_name", "label_name")
"""Columns of texts in predictions.parquet: no score needs them, and they would be most of the memory."""


def read_predictions(path: Path, leave_out: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The columns of the first split in a file of predictions, but those of texts and those that are left out.

    `logits` becomes [n, C] where every example has as many.
    """
    present = parquet.read_schema(path).names
    table = parquet.read_table(path, columns=[name for name in present if name not in (*FOR_PEOPLE, *leave_out)])
    if table.num_rows:
        table = table.filter(compute.equal(table.column("split"), table.column("split")[0]))
    columns: dict[str, np.ndarray] = {}
    for name in table.drop_columns(["split"]).column_names:
        column = table.column(name).combine_chunks()
        if name == "logits":
            lengths = compute.list_value_length(column).to_numpy()
            if len(set(lengths.tolist())) == 1:
                columns[name] = column.flatten().to_numpy().astype(np.float64).reshape(len(lengths), -1)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns
