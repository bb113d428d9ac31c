"""Which runs were made for another run: teachers, earlier generations and rounds. They are nobody's result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import but_the_method

BySeed = Mapping[int, Run]
"""Runs that differ in the seed alone."""


@dataclass(frozen=True)
class Served:
    """A run that another one needed."""

    run: Run
    role: str
    """What the other's results call it: `teacher`."""
    by: list[Run]


def references(runs: Iterable[Run]) -> dict[str, list[tuple[str, Run]]]:
    """By key of a run: who needed it, and as what. Every entry of results.json that has a key of its own names one.

    So does a round of self-training, of the round before; round 0 is the ordinary run, which stands for itself.
    """
    found: dict[str, list[tuple[str, Run]]] = defaultdict(list)
    for run in runs:
        for role, entry in run.results.items():
            for one in entry if isinstance(entry, list) else [entry]:
                if isinstance(one, dict) and one.get("key"):
                    found[str(one["key"])].append((role, run))
        learned = run.results.get("self_training") or {}
        if learned.get("before") and learned.get("round", 0) > 1:
            found[str(learned["before"])].append(("earlier round", run))
    return found


def only_served(groups: Sequence[BySeed]) -> list[bool]:
    """For each group whether all its runs were made for others.

    They were if each is named in another's results, and either that other one is of the same method (an earlier
    generation or round), or none of the runs that nobody needed has the same task, model and schedule: beside those
    a teacher is the baseline that the user would have asked for.
    """
    named = references(run for group in groups for run in group.values())

    def key(run: Run) -> str:
        return str(run.results.get("key", run.path.name))

    served = [all(key(run) in named for run in group.values()) for group in groups]
    beside = [
        but_the_method(_any(group).settings) for group, is_served in zip(groups, served, strict=True) if not is_served
    ]

    def earlier(group: BySeed) -> bool:
        return all(any(other.method == run.method for _, other in named[key(run)]) for run in group.values())

    return [
        is_served and (earlier(group) or but_the_method(_any(group).settings) not in beside)
        for group, is_served in zip(groups, served, strict=True)
    ]


def _any(group: BySeed) -> Run:
    return next(iter(group.values()))


def as_served(groups: Iterable[BySeed], runs: Iterable[Run]) -> list[Served]:
    """Each run of these groups with the runs of `runs` that needed it."""
    named = references(runs)
    found = []
    for run in (run for group in groups for run in group.values()):
        users = named[str(run.results.get("key", run.path.name))]
        found.append(Served(run, users[0][0], [user for _, user in users]))
    return found
