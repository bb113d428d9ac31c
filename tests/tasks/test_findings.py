"""What was read is said in a line, and what is strange about it in sentences, the same of a task that is kept."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import load_task
from selfdistill_cli.tasks import data, findings, making
from selfdistill_cli.tasks.findings import Repeats
from selfdistill_cli.tasks.split import Split
from tests.helpers.runs import composed
from tests.helpers.task_files import load_table, write

TEXTS = [f"text {i}" for i in range(40)]


def found(folder: Path, column: list[Any], texts: list[str] | None = None, **settings: Any) -> str:
    return "\n".join(load_table({"text": texts or TEXTS, "label": column}, folder, **settings).findings)


def test_nothing_is_said_of_clean_data(tmp_path: Path) -> None:
    assert found(tmp_path, ["a", "b"] * 20) == ""


def test_classes_that_look_alike_are_named_with_their_counts(tmp_path: Path) -> None:
    words = found(tmp_path, ["good", "Good", "good ", "good", "bad"] * 8)
    assert "'Good' (8), 'good' (16) and 'good ' (8) are classes that differ only in case" in words
    assert "'bad'" not in words
    words = found(tmp_path, ["caf\u00e9", "cafe\u0301", "\uff21", "A"] * 10)
    assert "'caf\u00e9' (10) and" in words or "and 'caf\u00e9' (10)" in words
    assert r"'cafe\u0301' (10)" in words
    assert "'A' (10) and '\uff21' (10)" in words
    assert "'1' (20) and '1.0' (20)" in found(tmp_path, ["1", "1.0"] * 20)


def test_numbers_with_a_decimal_comma_are_named_where_they_are_classes(tmp_path: Path) -> None:
    task = load_table({"text": TEXTS, "label": [f"{n},5" for n in range(20)] * 2}, tmp_path)
    assert "20 classes of 2 rows each" in task.summary
    assert "20 classes have names such as" in task.findings[0]
    assert "decimal comma" in task.findings[0]
    assert "comma" not in found(tmp_path, ["a,b", "c"] * 20)


def test_texts_are_compared_among_the_rows_that_are_trained_on_and_scored(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": ["same", *TEXTS[1:39], "same"], "label": ["a", "b"] * 20}
    scored: dict[str, Any] = {
        "validation_path": str(write(tmp_path / "scored.jsonl", {"text": ["new", *TEXTS], "label": ["a"] * 41}))
    }
    assert "two labels" in "\n".join(load_table(columns, tmp_path, **scored).findings)
    words = "\n".join(load_table(columns, tmp_path, train_examples=4, validation_examples=1, **scored).findings)
    assert "two labels" not in words
    assert "validation" not in words


def test_a_class_with_one_example_is_named_and_trained_on(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": TEXTS, "label": ["rare", *["a", "b", "c"] * 13]}
    task = load_table(columns, tmp_path)
    assert task.findings[0].startswith("'rare' is a class with one example:")
    assert task.label_names.index("rare") in task.train.labels


def test_a_class_that_looks_like_a_missing_value_is_named(tmp_path: Path) -> None:
    assert "'nan' (20) is the name of a class" in found(tmp_path, ["nan", "b"] * 20)


def test_configured_classes_that_never_occur_and_classes_that_few_examples_leave_out(tmp_path: Path) -> None:
    assert "task.labels: 'c' never occurs" in found(tmp_path, ["a", "b"] * 20, labels=["a", "b", "c"])
    words = found(tmp_path, ["a", "b", "c", "d"] * 10, train_examples=2)
    assert "task.train_examples=2 is fewer than the 4 classes" in words


def test_targets_that_are_all_the_same(tmp_path: Path) -> None:
    assert found(tmp_path, [2.5] * 40, kind="regression") == "All targets are 2.5: there is nothing to tell apart."
    assert found(tmp_path, [2.5, 3] * 20, kind="regression") == ""


def split(texts: list[str], labels: list[int], pairs: list[str] | None = None, first_row: int = 0) -> Split:
    return Split("x", "train", texts, pairs, np.array(labels), first_row + np.arange(len(texts)))


def test_texts_in_both_splits_and_texts_with_two_labels() -> None:
    train = split(["a", "b", "a", "c", "b", "a"], [0, 1, 1, 0, 1, 0])
    both = Repeats.of(train, split(["d", "b", "a", "b"], [0, 0, 0, 0], first_row=100), classes=True)
    assert both.first_two_labels in ([[0, 2]], [[2, 5]])  # one of the rows with each label
    assert (both.in_both, both.first_in_both, both.two_labels) == (3, [101, 102, 103], 1)
    assert Repeats.of(train, split(["d"], [0]), classes=False) == Repeats(0, [], 0, [])


def test_a_pair_is_the_same_only_if_both_texts_are() -> None:
    train = split(["a", "a"], [0, 1], pairs=["x", "y"])
    assert Repeats.of(train, split(["a", "a"], [0, 0], pairs=["z", "x"]), classes=True) == Repeats(1, [1], 0, [])


def test_the_line_of_an_own_file_and_of_a_benchmark(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": TEXTS, "label": ["no", "yes", "yes", "yes"] * 10}
    task = load_table(columns, tmp_path)
    assert task.summary == (
        f"read {tmp_path}/rows.jsonl: 40 rows, classification (read off the labels), 2 classes (no 10, yes 30); "
        "a fifth (8 rows, seed 0) is held out for validation"
    )
    other = write(tmp_path / "dev.jsonl", {"text": ["new"], "label": ["no"]})
    task = load_table(columns, tmp_path, kind="classification", validation_path=str(other), train_examples=12)
    assert "40 rows, classification, 2 classes (no 10, yes 30); 1 row of" in task.summary
    assert task.summary.endswith("12 of 40 are drawn for training (seed 0)")
    synthetic = load_task(composed("task=synth_similarity").task, "", 0)
    assert synthetic.summary == (
        "read synth_similarity: 800 training and 500 validation rows, regression, targets from 0 to 5"
    )


def test_a_kept_task_says_the_same_without_being_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["a", "b ", "b", None] * 10
    columns: dict[str, list[Any]] = {"text": ["again", *TEXTS[1:37], *["again"] * 3], "label": labels}
    memory = load_table(columns, tmp_path, missing="drop")
    assert len(memory.findings) >= 2
    monkeypatch.setattr(data, "KEPT_FROM_BYTES", 0)
    for _ in range(2):
        kept = load_task(memory.settings, "", 0, tmp_path / "cache")
        assert (kept.summary, kept.findings) == (memory.summary, memory.findings)
        assert kept.train.rows.tolist() == memory.train.rows.tolist()
        monkeypatch.setattr(making.Maker, "rows", None)


def test_the_class_that_f1_is_of_is_said_where_nobody_chose_it(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": TEXTS, "label": ["legit", "fraud"] * 20}

    def said(**settings: Any) -> str:
        return load_table(columns, tmp_path, **settings).summary

    assert """; f1 is of class 'legit' (task.labels=["legit","fraud"]: of 'fraud')""" in said(
        metrics=["accuracy", "f1"]
    )
    assert "; precision and f1 are of class 'legit'" in said(metrics=["precision"], metric="f1")
    for settings in ({"metrics": ["macro_f1"]}, {}, {"metrics": ["f1"], "labels": ["legit", "fraud"]}):
        assert "of class" not in said(**settings)


def test_findings_are_said_once_a_process_and_are_errors_in_strict_tasks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns: dict[str, list[Any]] = {"text": TEXTS, "label": ["rare", *["a", "b", "c"] * 13]}
    task = load_table(columns, tmp_path)
    with caplog.at_level(logging.DEBUG, "selfdistill_cli"):
        findings.report(task, speaks=True)
        findings.report(task, speaks=True)
        findings.report(task, speaks=False)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "DEBUG", "DEBUG"]
    assert "'rare' is a class with one example" in caplog.messages[1]
    with pytest.raises(UserError, match="'rare' is a class with one example"):
        findings.report(load_table(columns, tmp_path, strict=True), speaks=False)


def test_a_length_that_cuts_most_texts_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Encoded(SimpleNamespace):
        def __len__(self) -> int:
            return 10

    settings = composed("task=custom", "task.max_length=16", "task.strict=true").task
    findings.report_cut(settings, Encoded(truncated=5, uncut=99), speaks=True)
    with pytest.raises(
        UserError, match=r"task.max_length=16 cuts 6 of 10 training examples; the longest has 99 tokens"
    ):
        findings.report_cut(settings, Encoded(truncated=6, uncut=99), speaks=True)
