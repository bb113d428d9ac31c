"""When checkpoints are due; `auto` keeps what they cost below its share of the time."""

from __future__ import annotations

import random

import pytest

from selfdistill_cli.engine.cadence import BYTES_PER_SECOND, COST_SHARE, SHORTEST_SECONDS, CheckpointCadence


@pytest.mark.parametrize(
    ("every", "due"), [("7 steps", [7, 14, 21]), ("0.5 epochs", [5, 10, 15, 20]), ("1 minutes", [12, 24])]
)
def test_asked_intervals(every: str, due: list[int]) -> None:
    cadence = CheckpointCadence(every, steps_per_epoch=10, state_bytes=0)
    found = []
    for step in range(1, 25):
        now = 5.0 * step  # five seconds a step
        if cadence.due(step, now):
            found.append(step)
            cadence.saved(step, now, cost=0.0)
    assert found == [step for step in due if step <= 24]


@pytest.mark.parametrize("cost", [0.01, 2.0, 40.0])
def test_auto_costs_less_than_its_share_at_every_moment(cost: float) -> None:
    drawn = random.Random(0)
    # The first estimate is exact here; what each checkpoint really takes then varies by a fifth.
    cadence = CheckpointCadence("auto", steps_per_epoch=10, state_bytes=int(1.2 * cost * BYTES_PER_SECOND))
    now, spent, saves = 0.0, 0.0, 0
    for step in range(1, 20_000):
        now += 1.0
        if cadence.due(step, now):
            took = cost * drawn.uniform(0.8, 1.2)
            now, spent, saves = now + took, spent + took, saves + 1
            cadence.saved(step, now, took)
        assert spent <= 1.5 * COST_SHARE * now
    assert spent <= 1.05 * COST_SHARE * now
    assert saves >= 0.5 * min(now / SHORTEST_SECONDS, now * COST_SHARE / cost)  # and they are not just left out


def test_auto_waits_for_a_large_state_before_anything_was_measured() -> None:
    cadence = CheckpointCadence("auto", steps_per_epoch=10, state_bytes=int(10 * BYTES_PER_SECOND))
    assert not cadence.due(5, 499.0)
    assert cadence.due(5, 500.0)
