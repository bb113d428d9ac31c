"""What is said of jobs that run in other processes, and what a sweeper is told of them."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus

from selfdistill_cli.sweeps.records import Record, score_of, seconds_left
from selfdistill_cli.tracking.terminal import about


def job_return(overrides: Sequence[str], record: Record | None) -> JobReturn:
    """What a sweeper gets: what it chooses by, or None for a job that failed."""
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = score_of(record)
    return returned


def summary(finished: int, states: Sequence[str]) -> str:
    """`2 finished, 1 running, 1 pending`."""
    counts = {state: states.count(state) for state in sorted(states)}
    return ", ".join([f"{finished} finished", *(f"{count} {state.lower()}" for state, count in counts.items())])


def time_left(states: Sequence[str], records: Sequence[Record]) -> str:
    """` (about 4 min left)` for the jobs in these states, by those of this sweep that have trained; or nothing."""
    running = sum(state.lower() == "running" for state in states)
    left = seconds_left(records, len(states), at_once=max(1, running))
    return f" ({about(left)} left)" if left is not None else ""
