"""What kind of sweep the settings of a method make: grids and lines that can be drawn, and trials of a random search."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, variance
from typing import Any

from scipy.stats import studentized_range

from selfdistill_cli.reports.naming import identity
from selfdistill_cli.reports.statistics import LEVEL
from selfdistill_cli.reports.variants import Group

FIRST = ("method.tau", "method.lambda_", "method.tau_rule", "method.start_epoch")
"""Settings that stand on the horizontal axis where they vary."""
FILLED = 0.7
"""A grid has at least this share of its cells: two lines that cross are none."""
TRIALS = 5
"""So many groups that lie on no grid and no line are trials of a random search."""


@dataclass(frozen=True)
class Slice:
    """Groups that differ in one or two settings alone."""

    keys: tuple[str, ...]
    fixed: dict[str, Any]
    """The other settings that vary in the sweep, with their values here."""
    groups: list[Group]


@dataclass(frozen=True)
class Sweep:
    """The groups of one method that differ in settings."""

    method: str
    keys: list[str]
    """The settings that differ, those of the horizontal axis first."""
    groups: list[Group]


def sweeps(groups: Iterable[Group]) -> list[Sweep]:
    """By method. What differs in passes alone is another baseline and no sweep."""
    by_method: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_method[group.settings["method.name"]].append(group)
    found = [Sweep(method, varied(members), members) for method, members in by_method.items()]
    return [sweep for sweep in found if set(sweep.keys) - {"method.passes"}]


def varied(groups: Sequence[Group]) -> list[str]:
    """The settings in which these groups differ, those of the horizontal axis first."""
    keys = sorted({key for group in groups for key in group.settings})
    differing = [k for k in keys if len({identity({"": group.settings.get(k)}) for group in groups}) > 1]
    return sorted(differing, key=lambda k: (FIRST.index(k) if k in FIRST else len(FIRST), k))


def levels(groups: Sequence[Group], key: str) -> list[Any]:
    """The values of a setting, numbers by size."""
    values = {str(g.settings.get(key)): g.settings.get(key) for g in groups}
    return sorted(values.values(), key=lambda v: (not _number(v), v if _number(v) else 0, str(v)))


def numeric(groups: Sequence[Group], key: str) -> bool:
    """Whether all values of a setting are numbers."""
    return all(_number(group.settings.get(key)) for group in groups)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def slices(sweep: Sweep) -> tuple[list[list[Slice]], list[Group]]:
    """Grids of two settings and lines of one, those of the same settings together; and the groups that are on none.

    The largest first, and only those that have a group which is not on an earlier one.
    """
    seen: set[str] = set()
    found = []
    for width, least in ((2, 4), (1, 3), (1, 2)):
        candidates = [_of_keys(sweep, keys, least) for keys in itertools.combinations(sweep.keys, width)]
        candidates.sort(key=lambda of: -max((len(one.groups) for one in of), default=0))
        for of_keys in candidates:
            new = [one for one in of_keys if any(group.variant not in seen for group in one.groups)]
            left = [group for group in sweep.groups if group.variant not in seen]
            if new and (least > 2 or len(left) < TRIALS):
                found.append(new)
                seen |= {group.variant for one in new for group in one.groups}
    return found, [group for group in sweep.groups if group.variant not in seen]


def _of_keys(sweep: Sweep, keys: tuple[str, ...], least: int) -> list[Slice]:
    rest = [key for key in sweep.keys if key not in keys]
    by_rest: dict[str, list[Group]] = defaultdict(list)
    for group in sweep.groups:
        by_rest[identity({key: group.settings.get(key) for key in rest})].append(group)
    made = []
    for members in by_rest.values():
        sizes = [len(levels(members, key)) for key in keys]
        cells = sizes[0] * sizes[-1] if len(sizes) > 1 else sizes[0]
        if len(members) >= least and min(sizes) > 1 and len(members) >= FILLED * cells:
            made.append(Slice(keys, {key: members[0].settings.get(key) for key in rest}, members))
    return sorted(made, key=lambda one: -len(one.groups))


@dataclass(frozen=True)
class Scores:
    """Scores of groups that stand in one figure or sentence, on the same seeds where that is possible."""

    by_variant: dict[str, list[float]]
    marked: set[str]
    """Variants that ran on other seeds than most: their scores compare with the others' only roughly."""
    spread: float | None
    """Standard deviation between seeds, pooled over the groups that have several; None where none has."""
    freedom: int
    """Its degrees of freedom."""

    def of(self, group: Group) -> list[float]:
        """In the order of the seeds."""
        return self.by_variant[group.variant]

    def mean(self, group: Group) -> float:
        """Over the seeds."""
        return fmean(self.of(group))


def on_same_seeds(groups: Sequence[Group]) -> Scores:
    """On the seeds that all groups have, if that keeps half of the runs; else on all, those with other seeds marked."""
    several = [group.scores for group in groups if len(group.runs) > 1]
    freedom = sum(len(scores) - 1 for scores in several)
    spread = (sum((len(scores) - 1) * variance(scores) for scores in several) / freedom) ** 0.5 if several else None
    common = set.intersection(*(set(group.runs) for group in groups))
    if 2 * len(common) * len(groups) >= sum(len(group.runs) for group in groups):
        same = {g.variant: [g.runs[seed].results["score"] for seed in sorted(common)] for g in groups}
        return Scores(same, set(), spread, freedom)
    usual = Counter(tuple(sorted(group.runs)) for group in groups).most_common(1)[0][0]
    others = {g.variant for g in groups if tuple(sorted(g.runs)) != usual}
    return Scores({g.variant: g.scores for g in groups}, others, spread, freedom)


def range_of_chance(scores: Scores) -> float | None:
    """How far apart the means of so many groups are with 95 % at most if only seeds differ: Tukey's studentized range."""
    if not scores.spread or len(scores.by_variant) < 2:
        return scores.spread
    seeds = len(scores.by_variant) / sum(1 / len(of) for of in scores.by_variant.values())
    return _widest(len(scores.by_variant), scores.freedom) * scores.spread / seeds**0.5


@lru_cache(maxsize=1024)
def _widest(means: int, freedom: int) -> float:
    """The range of so many means, in standard errors, that chance exceeds in LEVEL of all cases."""
    return float(studentized_range.ppf(1 - LEVEL, means, freedom))  # an integral that takes a tenth of a second


def neighbours(one: Group, other: Group, sweep: Sweep) -> bool:
    """Whether two cells differ in one setting, of a number by one step."""
    differing = [key for key in sweep.keys if one.settings.get(key) != other.settings.get(key)]
    if len(differing) != 1:
        return False
    if not numeric(sweep.groups, differing[0]):
        return True
    steps = levels(sweep.groups, differing[0])
    places = [steps.index(group.settings[differing[0]]) for group in (one, other)]
    return abs(places[0] - places[1]) == 1
