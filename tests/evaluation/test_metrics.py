"""GLUE's metrics against their definitions, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from selfdistill_cli.evaluation import metrics
from selfdistill_cli.kinds.labelled import LabelledKind
from selfdistill_cli.kinds.multiple_choice import MultipleChoice

rng = np.random.default_rng(0)
REFERENCES = rng.integers(0, 2, 60)
PREDICTIONS = np.where(rng.random(60) < 0.8, REFERENCES, 1 - REFERENCES)


def compute(name: str, predictions: object, references: object, **more: object) -> float:
    return float(
        metrics.METRICS[name](keep_in_memory=True).compute(predictions=predictions, references=references, **more)[name]
    )


def test_every_configurable_metric_exists() -> None:
    assert set(metrics.METRICS) == set(LabelledKind.metrics)
    assert set(MultipleChoice.metrics) < set(metrics.METRICS)


def counts(positive: int = 1) -> tuple[int, int, int, int]:
    p, r = np.equal(PREDICTIONS, positive), np.equal(REFERENCES, positive)
    return int((p & r).sum()), int((p & ~r).sum()), int((~p & r).sum()), int((~p & ~r).sum())


def test_accuracy() -> None:
    assert compute("accuracy", PREDICTIONS, REFERENCES) == pytest.approx((PREDICTIONS == REFERENCES).mean())


def test_f1_is_that_of_class_one_and_macro_f1_the_mean() -> None:
    def f1(positive: int) -> float:
        tp, fp, fn, _ = counts(positive)
        return 2 * tp / (2 * tp + fp + fn)

    assert compute("f1", PREDICTIONS, REFERENCES) == pytest.approx(f1(1))
    assert compute("macro_f1", PREDICTIONS, REFERENCES) == pytest.approx((f1(0) + f1(1)) / 2)


def test_matthews() -> None:
    tp, fp, fn, tn = counts()
    expected = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert compute("matthews", PREDICTIONS, REFERENCES) == pytest.approx(expected)
    assert compute("matthews", np.ones(60, int), REFERENCES) == 0


def test_correlations() -> None:
    x, noise = rng.normal(size=50), rng.normal(size=50)
    y = x + noise
    ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    assert compute("pearson", x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert compute("spearman", x, y) == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1])


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_prediction_orders_nothing(name: str) -> None:
    assert compute(name, np.ones(5), np.arange(5.0)) == 0


def test_exact_match_counts_groups_that_are_right_as_a_whole() -> None:
    found = compute("exact_match", [1, 0, 1, 1], [1, 0, 0, 1], groups=["a", "a", "b", "c"])
    assert found == pytest.approx(2 / 3)
