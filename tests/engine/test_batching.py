"""Micro-batches: a partition, under the budget, as cheap as the cheapest; the epoch's order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from selfdistill_cli.engine.batching import CALL_OVERHEAD_TOKENS, EpochOrder, budget_batches, micro_batches

rng = np.random.default_rng(0)


def cost(lengths: np.ndarray, parts: list[np.ndarray]) -> float:
    return sum(lengths[part].max() * len(part) + CALL_OVERHEAD_TOKENS for part in parts)


@pytest.mark.parametrize("budget", [1, 60, 300, 100_000])
def test_micro_batches_are_a_partition_under_the_budget(budget: int) -> None:
    lengths = rng.integers(3, 120, size=40)
    parts = micro_batches(lengths, budget)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    assert all(len(part) == 1 or lengths[part].max() * len(part) <= budget for part in parts)


def test_micro_batches_cost_least_among_all_cuts_of_the_sorted_lengths() -> None:
    for _ in range(20):
        lengths = rng.integers(3, 200, size=8)
        ordered = np.argsort(lengths, kind="stable")
        cheapest = min(
            cost(lengths, np.split(ordered, cut)) for n in range(8) for cut in itertools.combinations(range(1, 8), n)
        )
        assert cost(lengths, micro_batches(lengths, 10**9)) == pytest.approx(cheapest)


def test_the_longest_micro_batch_comes_first() -> None:
    lengths = rng.integers(3, 400, size=64)
    longest = [lengths[part].max() for part in micro_batches(lengths, 4096)]
    assert longest == sorted(longest, reverse=True)


def test_budget_batches_cover_a_split_under_the_budget() -> None:
    lengths = rng.integers(1, 50, size=500)
    parts = budget_batches(lengths, 256)
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
