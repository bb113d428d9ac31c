"""Subsets keep the shares of classes, and rare classes where they are needed."""

from __future__ import annotations

import numpy as np
import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.sampling import HOLD_OUT_SEED, hold_out_rows, stratified_rows, subset_rows


@pytest.mark.parametrize("rare", [1, 3, 6, 30])
def test_a_class_with_one_example_stays_in_training(rare: int) -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2 + i for i in range(rare)])
    kept, held_out = hold_out_rows(labels, classes=True)
    assert set(labels[kept]) == set(labels)
    assert set(labels[held_out]) <= {0, 1}
    assert len(held_out) == len(labels) // 5
    assert sorted([*kept, *held_out]) == list(range(len(labels)))


def test_where_every_class_has_one_example_nothing_can_be_held_out() -> None:
    with pytest.raises(UserError, match="a class of its own"):
        hold_out_rows(np.arange(8), classes=True)
    assert len(hold_out_rows(np.arange(8))[1]) == 1  # deciles of few numbers are no classes


def test_a_small_subset_has_an_example_of_each_class_where_it_can() -> None:
    labels = np.array([0] * 90 + [1] * 6 + [2] * 3 + [3])
    for seed in range(5):
        assert np.bincount(labels[subset_rows(labels, 10, seed, classes=True)]).tolist() == [7, 1, 1, 1]
        few = labels[subset_rows(labels, 3, seed, classes=True)]
        assert np.bincount(few, minlength=4).tolist() == [3, 0, 0, 0]
    assert np.bincount(labels[subset_rows(labels, 10, 0)], minlength=4).tolist() == [9, 1, 0, 0]


@pytest.mark.parametrize("size", [10, 37, 200])
def test_what_is_drawn_does_not_change_where_every_class_is_large_enough(size: int) -> None:
    labels = np.random.default_rng(1).choice(4, size=400, p=[0.4, 0.3, 0.2, 0.1])
    assert np.array_equal(subset_rows(labels, size, 3, classes=True), subset_rows(labels, size, 3))
    plain = stratified_rows(labels, 80, np.random.default_rng(HOLD_OUT_SEED))
    assert np.array_equal(hold_out_rows(labels, classes=True)[1], plain)
