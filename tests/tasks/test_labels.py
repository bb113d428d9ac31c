"""What a label may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.labels import LabelCodec, infer_kind
from selfdistill_cli.tasks.sources import RawSplit
from tests.helpers.runs import composed
from tests.helpers.task_files import load_table, write
from tests.tasks.test_data import CUSTOM, refused


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_a_label_that_is_not_finite_is_refused_with_its_row(value: float, tmp_path: Path) -> None:
    labels = [1.0, 2.0] * 5
    labels[7] = value
    path = write(tmp_path / "rows.parquet", {"body": ["text"] * 10, "stars": labels})
    for more in ([], ["task.kind=classification"], ["task.kind=regression"]):
        words = refused(*CUSTOM, f"task.path={path}", *more)
        assert f"{path}, row 7: label {value!r} is not a finite number" in words


def test_labels_that_are_not_finite_do_not_decide_the_kind() -> None:
    fractions = [i + 0.5 for i in range(21)]
    assert infer_kind([*fractions, math.inf, math.nan]) == "regression"
    assert infer_kind([*fractions[1:], math.inf, -math.inf, math.nan]) == "classification"


@pytest.mark.parametrize("write_as", [str, float, lambda number: Decimal(str(number))])
def test_numbers_are_numbers_however_they_are_written(write_as: Callable[[float], Any], tmp_path: Path) -> None:
    scores = [i / 8 for i in range(40)]
    columns: dict[str, list[Any]] = {"text": ["text"] * 40, "label": [write_as(score) for score in scores]}
    ending = "parquet" if write_as is not str else "jsonl"
    task = load_table(columns, tmp_path, ending, validation_path=str(tmp_path / f"rows.{ending}"))
    assert task.kind.name == "regression"
    assert task.train.labels.tolist() == scores
    assert "regression (read off the labels), targets from 0 to 4.875" in task.summary


def test_what_is_no_number_among_many_is_refused_and_no_class_of_its_own(tmp_path: Path) -> None:
    labels = [f"{i / 8}" for i in range(40)]
    columns: dict[str, list[Any]] = {"text": ["text"] * 40, "label": [*labels[:7], "unknown", *labels[8:]]}
    with pytest.raises(UserError, match="row 7: label 'unknown' is not a finite number, as regression needs"):
        load_table(columns, tmp_path)
    columns["label"][7] = "NA"  # as R writes that a number is missing
    with pytest.raises(
        UserError, match=r"row 7 \(counted from 0\): column 'label' is empty or NA; 1 of 40 rows has no label"
    ):
        load_table(columns, tmp_path)
    columns["label"] = [label.replace(".", ",") for label in labels]
    with pytest.raises(UserError, match="write its numbers with a point instead of a comma"):
        load_table(columns, tmp_path)


def test_booleans_are_classes_and_no_targets(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": list("abcdef"), "label": [True, False] * 3}
    assert load_table(columns, tmp_path, "parquet").label_names == ["False", "True"]
    with pytest.raises(UserError, match=r"row 0 and 5 more of 6 rows: label True .* two classes: task.kind=classif"):
        load_table(columns, tmp_path, "parquet", kind="regression")
    columns["label"] = ["true", "false"] * 3  # as JSON writes them
    assert load_table(columns, tmp_path, labels=["False", "True"]).train.labels[0] == 1


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (["good", "short"], r"\['good', 'short'\] is a list.*no multi-label.*task.label='label\[0\]'"),
        ({"stars": "good"}, r"is a record.*task.label='label\[stars\]'"),
        ("['good', 'short']", "lists that are written as texts"),
    ],
)
def test_a_label_that_is_no_single_value_is_refused_with_a_way_out(label: Any, says: str, tmp_path: Path) -> None:
    other: Any = [*label, "more"] if isinstance(label, list) else label
    other = f"{label[:-1]}, 'x']" if isinstance(label, str) else other
    with pytest.raises(UserError, match=says):
        load_table({"text": list("abcdef"), "label": [label, other] * 3}, tmp_path)


def test_a_label_inside_a_column(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": list("abcdef"), "label": [{"tags": ["b"]}, {"tags": ["a", "c"]}] * 3}
    task = load_table(columns, tmp_path, label="label[tags][0]", validation_path=str(tmp_path / "rows.jsonl"))
    assert task.label_names == ["a", "b"]
    assert task.train.labels.tolist() == [1, 0] * 3
    columns["label"][4] = {"tags": []}
    with pytest.raises(UserError, match=r"row 4 \(counted from 0\): column 'label\[tags\]\[0\]' is empty"):
        load_table(columns, tmp_path, label="label[tags][0]")
    with pytest.raises(UserError, match=r"row 0: there is no 'label\[tag\]' in it"):
        load_table(columns, tmp_path, label="label[tag]")


@pytest.mark.parametrize(
    ("names", "labels", "numbers"),
    [
        (["no", "yes"], ["1", "1.0", "yes", "no"], [1, 1, 1, 0]),
        (["no", "yes"], [1.0, 0.0], [1, 0]),
        (["1", "2", "3"], ["1", "3"], [0, 2]),  # names that are numbers are no class numbers
        (["10", "9"], [9, 10.0], [1, 0]),
    ],
)
def test_configured_classes_are_known_by_name_and_by_number(
    names: list[str], labels: list[Any], numbers: list[int]
) -> None:
    codec = LabelCodec("classification", names, configured=True)
    assert codec.encode(labels, str).tolist() == numbers


def test_unknown_labels_are_counted() -> None:
    codec = LabelCodec("classification", ["no", "yes"], configured=True)
    with pytest.raises(UserError, match=r"row 1 and 1 more of 3 rows: unknown label 'yess'. Did you mean 'yes'"):
        codec.encode(["no", "yess", 2], lambda row: f"row {row}")


@pytest.mark.parametrize(("label", "meant"), [("YES", " Did you mean 'Yes'?"), ("maybe", "")])
def test_a_name_is_suggested_where_it_resembles_whatever_its_case(label: str, meant: str) -> None:
    with pytest.raises(UserError) as refused:
        LabelCodec("classification", ["No", "Yes"], configured=True).encode([label], str)
    assert str(refused.value) == f"0: unknown label '{label}'.{meant} Allowed are No (0), Yes (1), by name or number."


def test_one_class_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task.labels=\[yes\] names one class; at least 2 are needed"):
        load_table({"text": ["a", "b"], "label": ["yes", "no"]}, tmp_path, labels=["yes"])


def test_classes_are_what_the_file_says_and_numbers_among_them_sort_by_size() -> None:
    assert names_of(["10", "9", "9.50", "9.5"]) == ["9", "9.5", "9.50", "10"]
    assert names_of(["0870", "x", "870"]) == ["0870", "870", "x"]
    assert names_of([3.0, 1.0]) == ["1", "3"]
    assert names_of(["nan", "None", "a"]) == ["None", "a", "nan"]


def names_of(labels: list[Any]) -> list[str]:
    task = composed("task=custom").task
    raw = RawSplit("train", pa.table({"label": labels * 2}), "here")
    return LabelCodec.for_task(task, "classification", [raw]).names


def test_a_column_of_ids_is_taken_for_classes_only_if_that_is_said(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": [str(i) for i in range(50)], "label": [f"id{i % 30}" for i in range(50)]}
    with pytest.raises(UserError, match=r"30 classes in 50 rows .*1.7 examples each. Is it the label\?"):
        load_table(columns, tmp_path)
    task = load_table(columns, tmp_path, kind="classification")
    assert len(task.label_names) == 30
    assert "30 classes have 50 examples, 1.7 each: is 'label' the label?" in task.findings
    columns["label"] = [f"id{i % 25}" for i in range(50)]
    assert load_table(columns, tmp_path).kind.name == "classification"
    many = {"text": [str(i) for i in range(1001)], "label": [f"id{i}" for i in range(1001)]}
    with pytest.raises(
        UserError, match=r"1,001 classes .* names another; task\.labels=\[…\] with every name if it is\."
    ):
        load_table(many, tmp_path, kind="classification")
    columns["label"] = list(range(50))
    with pytest.raises(UserError, match=r"task.kind=regression if it is a number to be predicted"):
        load_table(columns, tmp_path, "parquet")
