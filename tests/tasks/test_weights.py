"""Weights of examples and classes: read as they are written, scaled to mean 1, refused where they are none."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.weights import by_class, described, training_weights
from tests.helpers.task_files import load, write

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
NAMES = ["bad", "fair", "good"]


def test_balanced_weights_are_scikit_learns() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert by_class("balanced", NAMES, LABELS) == pytest.approx(expected)
    assert by_class("balanced", NAMES, LABELS)[LABELS].mean() == pytest.approx(1)
    assert by_class("balanced", [*NAMES, "none"], LABELS)[3] == 0


def test_named_weights_are_those_and_the_others_one() -> None:
    assert by_class({"good": 2.5, "bad": 0}, NAMES, LABELS).tolist() == [0, 1, 2.5]
    assert by_class({1: 3}, ["0", "1"], LABELS[:5]).tolist() == [1, 3]
    # What Hydra makes of {true: 3, 1.50: 2} on a command line.
    assert by_class({True: 3}, ["false", "true"], LABELS[:5]).tolist() == [1, 3]
    assert by_class({1: 3}, ["01", "1"], LABELS[:5]).tolist() == [1, 3]
    assert by_class({False: 3}, ["False", "1"], LABELS[:5]).tolist() == [3, 1]
    assert by_class({1.5: 2}, ["1.50", "2"], LABELS[:5]).tolist() == [2, 1]
    with pytest.raises(UserError, match=r"1\.5 may be 1\.5 or 1\.50"):  # which of them was meant, nobody knows
        by_class({1.5: 2}, ["1.5", "1.50"], LABELS[:5])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("balance", "allowed are balanced, or weights by name: 'task.class_weights={bad: 1, fair: 1}'"),
        ({"god": 1}, "there is no class 'god'. Did you mean 'good'? The classes are bad, fair, good"),
        ({"good": -1}, "good: -1 is no number of 0 or more"),
        ({"good": math.inf}, "good: inf is no number"),
        ({"good": "1_000"}, "good: 1_000 is no number"),  # what Python takes, and nobody else
    ],
)
def test_what_is_no_weight_of_a_class_is_refused(asked: Any, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        by_class(asked, NAMES, LABELS)


WRITTEN = ["2", "0", "1", "0.5", "1e1", "3", "1", "1", "1", "1"]


def rows(weights: list[Any]) -> dict[str, list[Any]]:
    return {"text": [f"t {i}" for i in range(10)], "label": ["a", "b"] * 5, "w": weights}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_column_of_weights_is_scaled_to_mean_one_and_scores_have_none(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"in.{ending}", rows(WRITTEN))
    held = write(tmp_path / f"dev.{ending}", {"text": ["x", "y"], "label": ["a", "b"]})  # without the column
    words = ("task=custom", f"task.path={path}", "task.text=text", "task.weight=w")
    task = load(*words, f"task.validation_path={held}", "task.class_weights={a: 3}")
    raw = np.array([float(w) for w in WRITTEN]) * np.where(np.arange(10) % 2 == 0, 3, 1)
    found = training_weights(task)
    assert found is not None
    assert found.dtype == np.float32
    assert found == pytest.approx(raw * 10 / raw.sum())
    assert task.validation[0].weights is None
    facts = described(found)
    assert facts is not None
    assert facts["zero"] == 1
    assert facts["effective_sample_size"] == pytest.approx(raw.sum() ** 2 / (raw**2).sum())


def test_the_mean_is_that_of_the_examples_that_are_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", rows(WRITTEN))
    task = load("task=custom", f"task.path={path}", "task.text=text", "task.weight=w", "task.train_examples=4")
    found = training_weights(task)
    assert found is not None
    assert len(task.validation[0]) == 2
    raw = np.array([float(WRITTEN[row]) for row in task.train.rows])
    assert found == pytest.approx(raw / raw.mean())


def test_without_a_setting_there_are_no_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", rows(WRITTEN))
    task = load("task=custom", f"task.path={path}", "task.text=text")
    assert training_weights(task) is None
    assert described(None) is None


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (["1", "-1", "", "x", *["nan"] * 6], ["9 of 10 weights", "row 1: '-1'; row 2:", "row 3: 'x' …"]),
        (["0"] * 10, ["every training example has weight 0"]),
    ],
)
def test_what_is_no_weight_of_an_example_is_refused(weights: list[str], words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text,label,w\n" + "".join(f"t {i},{'ab'[i % 2]},{w}\n" for i, w in enumerate(weights)))
    with pytest.raises(UserError) as refused:
        training_weights(load("task=custom", f"task.path={path}", "task.text=text", "task.weight=w"))
    for part in words:
        assert part in str(refused.value)
