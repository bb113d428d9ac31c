"""Missing labels, texts and answers: counted and refused, or left out with the other rows keeping their numbers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from selfdistill_cli.errors import UserError
from tests.helpers.task_files import load_table

MISSING = {
    "jsonl null": ("jsonl", None),
    "jsonl blank": ("jsonl", "  "),
    "jsonl no-break space": ("jsonl", "\u00a0"),
    "csv empty": ("csv", ""),
    "parquet null": ("parquet", None),
    "parquet blank": ("parquet", "\t"),
}


@pytest.mark.parametrize("form", MISSING)
@pytest.mark.parametrize("column", ["label", "text"])
def test_a_missing_value_is_one_in_every_format(form: str, column: str, tmp_path: Path) -> None:
    ending, value = MISSING[form]
    columns: dict[str, list[Any]] = {"text": [f"t{i}" for i in range(12)], "label": ["a", "b"] * 6}
    for row in (3, 8):
        columns[column][row] = value
    with pytest.raises(UserError) as caught:
        load_table(columns, tmp_path, ending)
    words = str(caught.value)
    assert f"rows 3, 8 (counted from 0): column '{column}' is empty; 2 of 12 rows have no {column}." in words
    assert "task.missing=drop" in words
    assert ("task.missing=keep" in words) == (column == "text")
    task = load_table(columns, tmp_path, ending, missing="drop")
    rows = sorted([*task.train.rows, *task.validation[0].rows])
    assert rows == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11]
    assert all(text == f"t{row}" for text, row in zip(task.train.texts, task.train.rows, strict=True))
    assert task.label_names == ["a", "b"]
    assert f"2 rows left out (2 without {column})" in task.summary


def test_nan_is_a_missing_label_and_no_class(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": list("abcdefgh"), "label": [0.0, 1.0, math.nan, 1.0] * 2}
    with pytest.raises(
        UserError, match=r"rows 2, 6 \(counted from 0\): column 'label' is empty; 2 of 8 rows have no label"
    ):
        load_table(columns, tmp_path, "parquet")
    task = load_table(columns, tmp_path, "parquet", missing="drop")
    assert (task.label_names, len(task.train) + len(task.validation[0])) == (["0", "1"], 6)


def test_words_for_nothing_are_texts_and_class_names(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": ["NA", "null", "None", "nan"] * 3, "label": ["NA", "None", "x"] * 4}
    assert load_table(columns, tmp_path).label_names == ["NA", "None", "x"]


def test_everything_that_an_example_is_made_of_is_asked_for(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {name: ["x"] * 6 for name in ("text", "second", "group", "answer")}
    columns |= {"label": ["0", "1"] * 3, "choices": [["a", "b"]] * 6, "accepted": [["a"]] * 6}
    holes = {"second": "", "group": None, "answer": "", "choices": [], "accepted": [""]}

    def refused(row: int, column: str, **settings: Any) -> str:
        changed = {**columns, column: [*columns[column][:row], holes[column], *columns[column][row + 1 :]]}
        with pytest.raises(UserError) as caught:
            load_table(changed, tmp_path, **settings)
        return str(caught.value)

    assert "no second text" in refused(1, "second", text_pair="second")
    assert "no group" in refused(2, "group", group="{group}-{text}", metrics=["exact_match"])
    written = {"kind": "generation", "answer": "answer", "references": "accepted"}
    assert "no answer" in refused(3, "answer", **written)
    assert "row 4 (counted from 0): column 'accepted' is empty; 1 of 6 rows has no acceptable answer" in refused(
        4, "accepted", **written
    )
    assert "no choices" in refused(5, "choices", kind="multiple_choice", choices="choices")


def test_blank_texts_can_be_kept_but_no_labels(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"title": ["t", None, "t", "", "t", "t"], "label": ["a", "b"] * 3}
    task = load_table(columns, tmp_path, text="{title}!", missing="keep", validation_path=str(tmp_path / "rows.jsonl"))
    assert task.train.texts == ["t!", "!", "t!", "!", "t!", "t!"]
    columns["label"][0] = ""
    with pytest.raises(UserError, match="no label"):
        load_table(columns, tmp_path, text="{title}!", missing="keep")


def test_a_split_without_labels_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row has a label: column 'label' is empty in all"):
        load_table({"text": list("abcdef"), "label": [""] * 6}, tmp_path, missing="drop")
    columns: dict[str, list[Any]] = {"text": list("abcdef"), "label": [0, -1, 1, 0, 1, 0]}
    with pytest.raises(
        UserError, match=r"no row has a label: column 'label' is -1, .* in all \(the split carries no labels\)"
    ):
        load_table(columns | {"label": [-1] * 6}, tmp_path, labels=["no", "yes"])
    assert load_table(columns, tmp_path).label_names == ["-1", "0", "1"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_minus_one_is_the_hubs_sign_of_a_row_without_a_label_and_is_called_so(ending: str, tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"text": list("abcdefghi"), "label": [0, -1, 1] * 2 + [0, 1, -1]}
    with pytest.raises(UserError) as caught:
        load_table(columns, tmp_path, ending, labels=["negative", "neutral", "positive"])
    words = str(caught.value)
    assert (
        "rows 1, 4, 8 (counted from 0): column 'label' is -1, by which the Hub's data sets mark a row without a label"
        in words
    )
    assert "is empty" not in words
    ways = re.search(r"If -1 is a class of its own, task.labels are .*: (\[.*\])\.", words)
    assert ways is not None
    assert (
        "3 rows left out (3 without label (-1))"
        in load_table(columns, tmp_path, ending, labels=["no", "yes"], missing="drop").summary
    )
    assert load_table(columns, tmp_path, ending, labels=json.loads(ways[1])).label_names == ["-1", "0", "1"]
    if ending == "csv":
        columns["label"][0] = None
        with pytest.raises(
            UserError,
            match=r"row 0 .*is empty; 1 of 9 rows has no label.\n.* mark a row without a label; 3 of 9 rows have no label\.",
        ):
            load_table(
                {**columns, "label": ["" if one is None else str(one) for one in columns["label"]]},
                tmp_path,
                labels=["no", "yes"],
            )
