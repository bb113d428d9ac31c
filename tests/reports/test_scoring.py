"""Metrics as functions of sums are the metrics themselves, also of resampled examples."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats
from sklearn import metrics

from selfdistill_cli.reports.calibration import calibration
from selfdistill_cli.reports.scoring import scored
from selfdistill_cli.reports.statistics import resampled

CLASSES = {
    "accuracy": metrics.accuracy_score,
    "f1": lambda y, p: metrics.f1_score(y, p, labels=[1], average="micro", zero_division=0),
    "macro_f1": lambda y, p: metrics.f1_score(y, p, average="macro", zero_division=0),
    "matthews": metrics.matthews_corrcoef,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "precision": lambda y, p: metrics.precision_score(y, p, labels=[1], average="micro", zero_division=0),
    "recall": lambda y, p: metrics.recall_score(y, p, labels=[1], average="micro", zero_division=0),
    "macro_precision": lambda y, p: metrics.precision_score(y, p, average="macro", zero_division=0),
    "macro_recall": lambda y, p: metrics.recall_score(y, p, average="macro", zero_division=0),
}
VALUES = {
    "pearson": lambda y, p: stats.pearsonr(y, p)[0],
    "mse": metrics.mean_squared_error,
    "mae": metrics.mean_absolute_error,
}


def file(path: Path, prediction: np.ndarray, label: np.ndarray) -> Path:
    n = len(label)
    table = {"split": ["validation"] * n, "index": np.arange(n)[::-1], "prediction": prediction, "label": label}
    parquet.write_table(pa.table(table), path / "p.parquet")
    return path / "p.parquet"


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.parametrize(
    ("metric", "classes"), [*((m, c) for m in CLASSES for c in (2, 3, 30)), *((m, 0) for m in VALUES)]
)
def test_a_metric_of_counts_is_the_metric_of_repeated_examples(metric: str, classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label: Any = rng.integers(0, classes, 60) if metric in CLASSES else rng.normal(size=60)
    prediction = np.where(rng.random(60) < 0.6, label, rng.permutation(label))
    found = scored(file(tmp_path, prediction, label), metric)
    assert found is not None
    counts = np.vstack([np.ones(60), rng.multinomial(60, np.full(60, 1 / 60), 3)]).astype(int)
    reference = (CLASSES | VALUES)[metric]
    backwards = slice(None, None, -1)  # the file's rows are in another order than their numbers
    expected = [reference(np.repeat(label[backwards], c), np.repeat(prediction[backwards], c)) for c in counts]
    assert found.value(counts) == pytest.approx(expected)


def test_many_classes_take_no_more_room_than_few(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 900, (2, 3000))
    path = file(tmp_path, prediction, label)
    tracemalloc.start()
    found = scored(path, "macro_f1")
    assert found is not None
    drawn = resampled({0: found})[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert drawn.observed == pytest.approx(metrics.f1_score(label, prediction, average="macro", zero_division=0))
    assert peak < 100e6  # a cell for each pair of classes: 3,000 × 900² bytes = 2.4 GB
    assert found.features.data.nbytes < 100_000


@pytest.mark.parametrize("classes", [2, 3])
def test_auroc_of_counts_is_that_of_repeated_examples(classes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, classes, 60)
    drawn = rng.integers(-2, 3, (60, 2)) if classes == 2 else rng.normal(size=(60, 3))  # of integers, ties
    logits = drawn + np.eye(classes)[label]
    n = len(label)
    table = {"split": ["validation"] * n, "index": np.arange(n), "logits": list(logits), "prediction": logits.argmax(1)}
    parquet.write_table(pa.table(table | {"label": label}), tmp_path / "p.parquet")
    found = scored(tmp_path / "p.parquet", "auroc")
    assert found is not None
    counts = np.vstack([np.ones(60), rng.multinomial(60, np.full(60, 1 / 60), 3)]).astype(int)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of = [np.repeat(np.arange(60), c) for c in counts]
    if classes == 2:
        expected = [metrics.roc_auc_score(label[i], logits[i, 1] - logits[i, 0]) for i in of]
    else:
        expected = [metrics.roc_auc_score(label[i], p[i], multi_class="ovr") for i in of]
    assert found.value(counts) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["f1", "rougeL", "loss", "accuracy"])
def test_of_written_answers_exact_match_alone_is_compared(metric: str, tmp_path: Path) -> None:
    right = [True, False, True, True]
    table = {"split": ["validation"] * 4, "index": range(4), "text": ["a"] * 4, "correct": right}
    parquet.write_table(pa.table({name: list(values) for name, values in table.items()}), tmp_path / "p.parquet")
    assert scored(tmp_path / "p.parquet", metric) is None
    found = scored(tmp_path / "p.parquet", "exact_match")
    assert found is not None
    assert found.value(np.ones((1, 4)))[0] == 0.75


@pytest.mark.parametrize("metric", ["loss", "exact_match"])
def test_of_labels_the_loss_and_scores_of_groups_are_not_compared(metric: str, tmp_path: Path) -> None:
    assert scored(file(tmp_path, np.array([0, 1, 1]), np.array([0, 1, 0])), metric) is None


def test_spearman_is_scipys(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    label = rng.normal(size=50)
    prediction = label + rng.normal(size=50)
    found = scored(file(tmp_path, prediction, label), "spearman")
    assert found is not None
    assert found.value(np.ones((1, 50)))[0] == pytest.approx(stats.spearmanr(label, prediction).statistic)


def test_calibration_is_sklearns_and_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 2)) * 2, rng.integers(0, 2, 200)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = calibration(logits, labels)
    assert found.nll == pytest.approx(metrics.log_loss(labels, p))
    assert found.brier == pytest.approx(2 * metrics.brier_score_loss(labels, p[:, 1]))
    sure = calibration(np.array([[9.0, -9.0]] * 4), np.array([0, 0, 0, 1]))
    assert sure.ece == pytest.approx(0.25, abs=1e-6)  # certain, and right three times of four
    assert sure.counts.sum() == sure.counts[-1] == 4


def test_calibrated_probabilities_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 20_000)
    found = calibration(np.log(np.stack([1 - p, p], 1)), (rng.random(20_000) < p).astype(int))
    assert found.ece < 0.015
