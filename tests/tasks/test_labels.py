"""What a label may be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from selfdistill_cli.tasks.labels import infer_kind
from tests.helpers.task_files import write
from tests.tasks.test_data import CUSTOM, refused


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
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
