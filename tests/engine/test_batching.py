"""Micro-batches: a partition, under the budget, as cheap as the cheapest; the epoch's order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from selfdistill_cli.engine.batching import (
    Batching,
    EpochOrder,
    coarse,
    coarse_total,
    micro_batches,
    prediction_batches,
)
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.concatenated import Concatenation
from tests.helpers.runtimes import cpu_runtime

rng = np.random.default_rng(0)


def cost(lengths: np.ndarray, parts: list[np.ndarray]) -> float:
    return sum(lengths[part].max() * len(part) + Batching(1).call_cost for part in parts)


@pytest.mark.parametrize("budget", [1, 60, 300, 100_000])
def test_micro_batches_are_a_partition_under_the_budget(budget: int) -> None:
    lengths = rng.integers(3, 120, size=40)
    parts = micro_batches(lengths, Batching(budget))
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert all(len(part) == 1 or lengths[part].max() * len(part) <= budget for part in parts)


def test_micro_batches_cost_least_among_all_cuts_of_the_sorted_lengths() -> None:
    for _ in range(20):
        lengths = rng.integers(3, 200, size=8)
        ordered = np.argsort(lengths, kind="stable")
        cheapest = min(
            cost(lengths, np.split(ordered, cut)) for n in range(8) for cut in itertools.combinations(range(1, 8), n)
        )
        assert cost(lengths, micro_batches(lengths, Batching(10**9))) == pytest.approx(cheapest)


def test_the_longest_micro_batch_comes_first() -> None:
    lengths = rng.integers(3, 400, size=64)
    longest = [lengths[part].max() for part in micro_batches(lengths, Batching(4096))]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize("size", [1, 3, 32, 45])
def test_batches_of_few_shapes_are_a_partition_in_multiples(size: int) -> None:
    lengths = rng.integers(3, 128, size=size)
    batching = Batching.of_few_shapes(4096)
    parts = micro_batches(lengths, batching)
    assert sorted(np.concatenate(parts).tolist()) == list(range(size))
    assert all(len(part) % 4 == 0 for part in parts[:-1])
    assert len(parts[-1]) % 4 in (0, size % 4)
    assert all(batching.widths(lengths[part]).max() * len(part) <= 4096 for part in parts)


def test_a_budget_below_four_rows_goes_before_few_shapes() -> None:
    lengths = np.full(8, 100)
    assert [len(part) for part in micro_batches(lengths, Batching.of_few_shapes(230))] == [2, 2, 2, 2]


def test_few_shapes_are_few() -> None:
    shapes = set()
    for batching in (Batching(4096), Batching.of_few_shapes(4096)):
        found = set()
        for _ in range(200):
            lengths = rng.integers(20, 128, size=32)
            found |= {(len(p), int(batching.widths(lengths[p]).max())) for p in micro_batches(lengths, batching)}
        shapes.add(len(found))
    assert max(shapes) > 10 * min(shapes)


class Concatenating:
    """A model that needs no padding."""

    def __init__(self, few_shapes: bool = False) -> None:
        self.takes_concatenated = Concatenation(padding=None, few_shapes=few_shapes)


def test_without_padding_a_step_is_cut_only_where_the_budget_demands_it() -> None:
    batching = Batching.of_few_shapes(200).of(Concatenating())
    assert (batching.padding, Batching(200).of(object()).padding) == ("none", "longest")
    lengths = rng.integers(1, 50, size=60)
    parts = micro_batches(lengths, batching)
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    assert all(lengths[part].sum() == batching.size(lengths[part]) <= 200 for part in parts)
    assert len(parts) <= lengths.sum() / (200 - 50) + 1
    (whole,) = micro_batches(lengths, Batching(4096).of(Concatenating()))
    assert batching.size(lengths[whole]) == lengths.sum() < Batching(4096).size(lengths[whole])
    copied = micro_batches(lengths, batching, copies=2)
    assert all(2 * lengths[part].sum() <= 200 for part in copied)
    predicted = prediction_batches(lengths, batching, largest=9)
    assert sorted(np.concatenate(predicted).tolist()) == list(range(60))
    assert all(lengths[part].sum() <= 400 and len(part) <= 9 for part in predicted)


def test_a_coarse_scale_has_few_sizes_and_each_is_at_most_a_step_away() -> None:
    sizes = np.arange(1, 5000)
    totals = np.array([coarse_total(int(size)) for size in sizes])
    assert (totals >= sizes).all()
    assert (totals - sizes <= np.maximum(15, sizes / 16)).all()
    assert (totals % 16 == 0).all()
    assert len(set(totals[sizes <= 512])) == 32
    assert len(set(totals)) < 100
    assert coarse(np.array([1, 8, 9, 63, 64, 65, 128, 129]), least=8, parts=4).tolist() == [
        8,
        8,
        16,
        64,
        64,
        80,
        128,
        160,
    ]
    filled = Batching.of_few_shapes(4096).of(Concatenating(few_shapes=True))
    assert filled.size(np.array([300, 220])) == 544


def test_an_interrupted_run_goes_on_with_the_padding_that_it_began_with() -> None:
    runtime: Any = cpu_runtime()
    padded, concatenating = torch.nn.Linear(1, 1), Concatenating()
    assert runtime.rounding(padded) == {
        "device": "cpu",
        "precision": "fp32",
        "compile": "false",
        "padding": "longest",
        "shard": "none",
    }
    for model in (padded, concatenating):
        runtime.require_same(1, runtime.rounding(model), model)
    runtime.require_same(1, {"precision": "fp32"}, padded)  # as checkpoints once said
    with pytest.raises(UserError, match=r"padding=longest and would go on with none"):
        runtime.require_same(1, {"precision": "fp32"}, concatenating)
    with pytest.raises(UserError, match=r"padding=none and would go on with longest"):
        runtime.require_same(1, runtime.rounding(concatenating), padded)
    with pytest.raises(UserError, match=r"begun with runtime.device=cuda and would go on with cpu"):
        runtime.require_same(1, runtime.rounding(padded) | {"device": "cuda", "padding": "none"}, padded)


def test_prediction_batches_cover_a_split_under_twice_the_budget() -> None:
    lengths = rng.integers(1, 50, size=500)
    parts = prediction_batches(lengths, Batching(128))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert all(len(part) == 1 or lengths[part].max() * len(part) <= 256 for part in parts)


def test_every_epoch_shows_every_example_once_in_another_order() -> None:
    order = EpochOrder(size=23, batch_size=5, seed=1)
    assert order.steps_per_epoch == 5
    epochs = [[i for step in range(5) for i in order.fresh(5 * epoch + step)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_the_seed_alone_and_any_step_can_be_asked_for() -> None:
    first, again = EpochOrder(23, 5, seed=1), EpochOrder(23, 5, seed=1)
    forwards = [first.fresh(step) for step in range(15)]
    backwards = [again.fresh(step) for step in reversed(range(15))]
    assert forwards == backwards[::-1]
    assert forwards != [EpochOrder(23, 5, seed=2).fresh(step) for step in range(15)]


def test_a_data_set_smaller_than_the_batch_is_one_step_an_epoch() -> None:
    order = EpochOrder(size=3, batch_size=32, seed=0)
    assert order.steps_per_epoch == 1
    assert sorted(order.fresh(7)) == [0, 1, 2]


def test_on_a_card_a_step_is_cut_only_where_the_budget_demands_it() -> None:
    lengths = np.array([5, 128, 7, 120, 30, 60, 9, 11])
    assert len(micro_batches(lengths, Batching(4096))) > 1  # on a processor padding costs more than another pass
    (whole,) = micro_batches(lengths, Batching.of_card(4096))
    assert sorted(whole) == list(range(8))
    assert max(lengths[part].max() * len(part) for part in micro_batches(lengths, Batching.of_card(512))) <= 512
