"""Metrics against their definitions, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from selfdistill_cli.evaluation import metrics
from selfdistill_cli.evaluation.labelled import probabilities
from selfdistill_cli.evaluation.majority import majority_score, one_class_alone
from selfdistill_cli.kinds.labelled import ReadOffLabels
from selfdistill_cli.kinds.multiple_choice import MultipleChoice
from tests.helpers.task_files import load, write

rng = np.random.default_rng(0)
REFERENCES = rng.integers(0, 2, 60)
PREDICTIONS = np.where(rng.random(60) < 0.8, REFERENCES, 1 - REFERENCES)


def compute(name: str, predictions: object, references: object, **more: object) -> float:
    return float(
        metrics.METRICS[name](config_name=name, keep_in_memory=True).compute(
            predictions=predictions, references=references, **more
        )[name]
    )


def test_every_configurable_metric_exists() -> None:
    assert set(metrics.METRICS) == set(ReadOffLabels.metrics)
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


THREE = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
SAID = np.array([0, 0, 0, 1, 1, 1, 2, 2, 0, 1])
# Counted by hand: class 0 has 4 examples, 3 found, said 4 times; class 1: 3, 2, 4; class 2: 3, 1, 2.
BY_HAND = {
    "macro_recall": (3 / 4 + 2 / 3 + 1 / 3) / 3,
    "balanced_accuracy": (3 / 4 + 2 / 3 + 1 / 3) / 3,
    "macro_precision": (3 / 4 + 2 / 4 + 1 / 2) / 3,
    "macro_f1": (6 / 8 + 4 / 7 + 2 / 5) / 3,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_means_over_classes(name: str) -> None:
    assert compute(name, SAID, THREE) == pytest.approx(BY_HAND[name])


def test_precision_and_recall_are_those_of_class_one() -> None:
    tp, fp, fn, _ = counts()
    assert compute("precision", PREDICTIONS, REFERENCES) == pytest.approx(tp / (tp + fp))
    assert compute("recall", PREDICTIONS, REFERENCES) == pytest.approx(tp / (tp + fn))
    assert compute("precision", np.zeros(60, int), REFERENCES) == 0


def test_balanced_accuracy_is_over_the_classes_that_are_there(recwarn: pytest.WarningsRecorder) -> None:
    assert compute("balanced_accuracy", [0, 0, 1, 2], [0, 0, 1, 1]) == pytest.approx((1 + 1 / 2) / 2)
    assert [w for w in recwarn if "sklearn" in str(w.filename)] == []


def test_auroc_is_the_chance_that_the_positive_has_the_larger_probability() -> None:
    labels, p = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.3])
    pairs = [(a > b) + 0.5 * (a == b) for a in p[labels == 1] for b in p[labels == 0]]
    both = np.stack([1 - p, p], axis=1)
    assert compute("auroc", (p > 0.5).astype(int), labels, probabilities=both) == pytest.approx(np.mean(pairs))


def test_auroc_of_three_classes_is_the_mean_of_one_against_the_rest() -> None:
    p = rng.dirichlet(np.ones(3), size=10)
    expected = roc_auc_score(THREE, p, multi_class="ovr", average="macro")
    assert compute("auroc", p.argmax(1), THREE, probabilities=p) == pytest.approx(expected)
    without = THREE < 2  # a class that the split does not hold counts nothing
    of_two = np.mean([roc_auc_score(THREE[without] == number, p[without, number]) for number in (0, 1)])
    assert compute("auroc", SAID[without], THREE[without], probabilities=p[without]) == pytest.approx(of_two)


def test_probabilities_of_large_logits_still_differ() -> None:
    found = probabilities(torch.tensor([[0.0, 20.0], [0.0, 21.0]]))
    assert found is not None
    assert found[0, 1] < found[1, 1] < 1
    assert probabilities(torch.zeros(3)) is None


def test_errors_of_numbers() -> None:
    assert compute("mse", [1.0, 2.0, 5.0], [1.0, 4.0, 4.0]) == pytest.approx((0 + 4 + 1) / 3)
    assert compute("mae", [1.0, 2.0, 5.0], [1.0, 4.0, 4.0]) == pytest.approx(1)


def test_always_the_same_class_scores_its_share(tmp_path: Path) -> None:
    train = {"text": [f"a {i}" for i in range(10)], "label": ["no"] * 6 + ["yes"] * 4}
    held = {"text": [f"b {i}" for i in range(8)], "label": ["no"] * 3 + ["yes"] * 5}
    paths = [write(tmp_path / f"{name}.csv", table) for name, table in (("t", train), ("v", held))]
    of_file = ("task=custom", f"task.path={paths[0]}", f"task.validation_path={paths[1]}", "task.text=text")
    task = load(*of_file, "task.metric=auroc")
    assert task.metrics == ["accuracy", "macro_f1", "auroc"]
    assert majority_score(task) == {"label": "no", "score": 0.5}
    assert majority_score(replace(task, metric="accuracy")) == {"label": "no", "score": pytest.approx(3 / 8)}
    assert majority_score(replace(task, metric="loss")) is None
    said = one_class_alone(task, task.validation[0], np.ones(8, int))
    assert said is not None
    assert "'yes' for all 8 examples" in said
    assert "62.5%" in said
    assert one_class_alone(task, task.validation[0], np.array([0] + [1] * 7)) is None
