"""Which groups the lines of a figure stand for, and how a curve is summed up over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from selfdistill_cli.config.metrics import in_percent
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.numbers import Scale
from selfdistill_cli.reports.panels import Line
from selfdistill_cli.reports.rows import FEW, best_of
from selfdistill_cli.reports.variants import BASELINE, Group, Study

MOST = 8
"""Lines in one figure: more cannot be told apart."""

Curve = tuple[np.ndarray, np.ndarray]


def shown(groups: Sequence[Group]) -> list[Group]:
    """These groups, of each sweep only one: at its default settings, else the best by the score that selects."""
    of_method: dict[str, list[Group]] = {}
    for group in groups:
        of_method.setdefault(group.settings["method.name"], []).append(group)
    chosen: list[Group] = []
    for method, members in of_method.items():
        default = [group for group in members if group.variant == method]
        chosen += members if len(members) <= FEW else default or [best_of(members)]
    return chosen


def pages(groups: Sequence[Group]) -> list[list[Group]]:
    """At most MOST of these groups a figure, the first baseline in each of them."""
    baseline = [group for group in groups if group.settings["method.name"] == BASELINE][:1]
    others = [group for group in groups if group not in baseline]
    room = MOST - len(baseline)
    return [[*baseline, *others[at : at + room]] for at in range(0, max(1, len(others)), room)]


def line(
    study: Study,
    group: Group,
    kind: str,
    name: str,
    of: Callable[[Curve], Curve] = lambda curve: curve,
    scale: float = 1,
) -> Line | None:
    """A group's values of a column over epochs: mean over seeds, and a standard deviation to both sides.

    `of` changes each seed's curve before. None where no run has the column.
    """
    curves = [of(series(run.rows.get(kind, []), name)) for run in group.runs.values()]
    return line_of(study, group, [(x, y * scale) for x, y in curves])


def line_of(study: Study, group: Group, curves: Sequence[Curve]) -> Line | None:
    """The same of curves that are at hand, one a seed."""
    x, mean, spread = over_seeds(curves)
    if not len(x):
        return None
    band = (mean - spread, mean + spread) if np.any(spread) else (None, None)
    return Line(group.variant, study.look(group), x, mean, *band)


def lines(study: Study, groups: Sequence[Group], kind: str, name: str, **how: Any) -> list[Line]:
    """One for each group that has the column."""
    return [one for group in groups if (one := line(study, group, kind, name, **how)) is not None]


def scale(metric: str) -> int:
    """What a metric is multiplied by where people read it."""
    return 100 if in_percent(metric) else 1


def said(values: Sequence[float], metric: str) -> str:
    """`71.2 ± 1.1`: mean and standard deviation over seeds as papers print them; a single value alone."""
    return Scale(metric, 1 if in_percent(metric) else 3).spread(values)


def extremes(values: Mapping[str, float], form: str) -> str:
    """`0.64 (dcs) to 0.69 (vanilla)`: the smallest and the largest value, each with its name."""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    first = f"{values[low]:{form}} ({low})"
    return first if low == high else f"{first} to {values[high]:{form}} ({high})"


def part(number: int, of: int) -> str:
    """` (part 2 of 3)` where lines fill several figures."""
    return f" (part {number + 1} of {of})" if of > 1 else ""


def seeds(groups: Sequence[Group]) -> str:
    """`3 seeds`, `2 to 5 seeds`."""
    counts = sorted({len(group.runs) for group in groups})
    if counts == [1]:
        return "one seed"
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def over(groups: Sequence[Group]) -> str:
    """What a line with its band is: `mean and one standard deviation over 3 seeds`."""
    words = seeds(groups)
    return words if words == "one seed" else f"mean and one standard deviation over {words}"
