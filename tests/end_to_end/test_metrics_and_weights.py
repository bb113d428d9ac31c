"""Metrics and weights through the real command: what is refused before training, and what a weighed run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from tests.helpers.processes import Sdrun
from tests.helpers.runs import SMALL, assert_one_clear_message, only_run, results, rows

FILE = ("task=custom", "task.path=in.csv", "task.text=text")
TINY = tuple(word for word in SMALL if not word.startswith("task."))


def test_f1_of_three_classes_is_refused_before_training(sdrun: Sdrun, tmp_path: Path) -> None:
    lines = ["text,label", *(f"film number {i},{('red', 'green', 'blue')[i % 3]}" for i in range(30))]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    ended = sdrun(*FILE, *TINY, "task.metrics=[accuracy,f1,macro_f1]")
    assert_one_clear_message(ended, ["f1 is that of class 1 of two", "3 classes (blue, green, red)", "Take macro_f1"])
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_weighed_run_selects_by_loss_and_says_what_its_score_stands_beside(sdrun: Sdrun, tmp_path: Path) -> None:
    written = [f"film number {i},{'no' if i % 3 else 'yes'},{i % 4}" for i in range(48)]
    (tmp_path / "in.csv").write_text("\n".join(["text,label,times", *written]) + "\n")
    weighed = ("task.weight=times", "task.class_weights=balanced")
    ended = sdrun(*FILE, *TINY, *weighed, "method=static_sd", "task.metric=loss", "schedule.epochs=3")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    table = parquet.read_table(run / "examples.parquet")
    index, weight = table["index"].to_numpy(), table["weight"].to_numpy()
    of_class = np.where(index % 3 > 0, (index % 3 == 0).sum(), (index % 3 > 0).sum())
    expected = (index % 4) * of_class.astype(float)  # N / (C n_c) up to a common factor: the other class's count
    assert weight == pytest.approx(expected / expected.mean(), rel=1e-5)
    found = results(run)
    assert found["weights"]["zero"] == int((index % 4 == 0).sum())
    evaluations = rows(run, "eval")
    best = min(evaluations, key=lambda row: row["eval/loss"])
    assert found["score"] == best["eval/loss"] == found["metrics"]["final"]["loss"]
    assert found["best_epoch"] == best["epoch"]
    assert "majority" not in found  # the loss of always saying the same is infinite
    assert "validation loss" in ended.out
