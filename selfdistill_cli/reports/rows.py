"""The rows of a study's table: a method's settings where they are few; of a sweep the default and the best by selection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.naming import differing
from selfdistill_cli.reports.older import default_settings
from selfdistill_cli.reports.origins import ROUND
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import Group, Study

FEW = 3
"""So many settings of a method have a row each; more are a sweep, which is summed up."""
REPORTED = "validation"
"""What `selected_on` says of runs whose epoch was chosen on the examples that are reported."""


@dataclass(frozen=True)
class Row:
    """A line of a study's table."""

    name: str
    groups: list[Group]
    """One; several where a sweep has no setting that may stand for it."""
    chosen_of: int = 0
    """From so many settings it was taken as the best; 0: it was not chosen."""
    unbiased: bool = True
    """Whether the examples that are reported had no part in the choice of this setting."""

    @property
    def group(self) -> Group | None:
        """The one that can be compared."""
        return self.groups[0] if len(self.groups) == 1 else None


def rows(study: Study) -> list[Row]:
    """In the study's order, methods together: vanilla first."""
    swept = bool(best_vanillas(study))
    return [row for family in families(study.groups) for row in _of_family(family, swept)]


def best_vanillas(study: Study) -> list[Group]:
    """Of vanilla in several settings, for each number of passes, the best one, by default or not."""
    swept = [one for one in families([group for group in study.groups if group.is_vanilla]) if len(one) > 1]
    return [_without_the_trial(best, one) for one in swept if (best := best_by_selection(one)) is not None]


def families(groups: Sequence[Group]) -> list[list[Group]]:
    """The settings of a method with as many passes, together; a round of self-training is none of those of its method."""
    found: dict[tuple[str, float, str], list[Group]] = defaultdict(list)
    for group in groups:
        learned = str(group.settings.get(ROUND, ""))
        found[str(group.settings["method.name"]), group.settings["method.passes"], learned].append(group)
    return list(found.values())


def name_of_family(family: Sequence[Group]) -> str:
    """`dynsdpb`, and what tells it from other families of the method: `vanilla (passes=2)`."""
    settings = family[0].settings
    passes = settings["method.passes"]
    told = [f"passes={passes:g}"] * (passes != 1) + [str(settings.get(ROUND))] * (ROUND in settings)
    return f"{settings['method.name']} ({', '.join(told)})" if told else str(settings["method.name"])


def _of_family(family: list[Group], swept: bool) -> list[Row]:
    """`swept`: whether vanilla has a best setting of its own, with which a chosen one is compared."""
    best = best_by_selection(family)
    chosen = None if best is None else _without_the_trial(best, family)
    tried = chosen is not None and chosen is not best
    shown = family if len(family) <= FEW else [group for group in family if _is_default(group, family)]
    found = [Row(group.variant, [group]) for group in shown if not (tried and group is best)]
    if chosen is None:
        return found or [Row(f"{name_of_family(family)}, {len(family)} settings", family)]
    many = len(family) > FEW and (best not in shown or (swept and not chosen.is_vanilla))
    if tried or many:
        unbiased = all(_chosen_elsewhere(run) for group in family for run in group.runs.values())
        found.append(Row(f"{chosen.variant}, best of {len(family)} settings", [chosen], len(family), unbiased))
    return found


def _without_the_trial(best: Group, family: Sequence[Group]) -> Group:
    """Its runs without the one that it was chosen by, where every other setting has that one seed, and it has more.

    A score that chooses is too good: luck had a part in it. Itself where it was not chosen so, as it was not if another
    setting is better on that seed, or if it is the default beside one or two others that were tried.
    """
    others = [group for group in family if group is not best]
    seeds = {seed for group in others for seed in group.runs}
    if len(seeds) != 1 or not (seeds < set(best.runs)) or (len(family) <= FEW and _is_default(best, family)):
        return best
    (trial,) = seeds
    sign = 1 if larger_is_better(best.first.results["metric"]) else -1
    mine, *theirs = (sign * selection_score(group.runs[trial]) for group in (best, *others))
    if mine < max(theirs):
        return best
    return replace(best, runs={seed: run for seed, run in best.runs.items() if seed != trial})


def _is_default(group: Group, family: Sequence[Group]) -> bool:
    varied = differing([one.settings for one in family])
    known = default_settings(group.first.method, str(group.settings.get("model.name")))
    return all(key in known and group.settings.get(key) == known[key] for key in varied)


def best_by_selection(cells: Sequence[Group]) -> Group | None:
    """The best mean of the scores that select, on the seeds that all cells have; if these are not two, on all seeds of the
    cells with the most. None where every cell has one seed."""
    seeds = set.intersection(*(set(cell.runs) for cell in cells))
    rated = list(cells)
    if len(seeds) < 2:
        most = max(len(cell.runs) for cell in cells)
        rated = [cell for cell in cells if len(cell.runs) == most]
        seeds = {seed for cell in rated for seed in cell.runs}
        if most < 2:
            return None
    best = max if larger_is_better(cells[0].first.results["metric"]) else min
    return best(rated, key=lambda cell: fmean(selection_score(r) for s, r in cell.runs.items() if s in seeds))


def best_of(cells: Sequence[Group]) -> Group:
    """The same, and of cells with one seed each the one that is the best on it."""
    best = max if larger_is_better(cells[0].first.results["metric"]) else min
    return best_by_selection(cells) or best(cells, key=lambda cell: fmean(map(selection_score, cell.runs.values())))


def selection_score(run: Run) -> float:
    """What a run's epoch and setting are chosen by: the score on a split for that, where it had one."""
    return float(run.results.get("selection_score", run.results["score"]))


def _chosen_elsewhere(run: Run) -> bool:
    return "selection_score" in run.results
