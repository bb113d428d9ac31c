"""What a budget of trials buys: the expected score of the best of n (Dodge et al., EMNLP 2019, arXiv 1909.03004)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.lines import scale
from selfdistill_cli.reports.panels import Curves, Line, Look
from selfdistill_cli.reports.rows import families, name_of_family
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.sweeps import TRIALS, Sweep, levels, numeric, sweeps, varied
from selfdistill_cli.reports.variants import Study

SHOWN = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of trials that the table has a column for, and how many there are."""


@dataclass(frozen=True)
class Search:
    """A random search of a method; over more passes it is one of its own."""

    method: str
    name: str
    """The method, its passes where they are not one, and its round of self-training."""
    trials: list[Run]


def expected_best(
    selected: Sequence[float], reported: Sequence[float], larger: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the reported score of the best of n trials, n = 1 … N: float64 [N] each.

    The best is the one whose `selected` [N] is the largest (else the smallest), of equal ones any; what it scores is its
    `reported` [N]. n trials are n independent draws from those that were run (Dodge et al., section 3.2): with F(v) the
    share of trials that select no better than v, the best is at v with probability F(v)^n − F(v⁻)^n. Where both scores
    are the same this is their expected validation performance.
    """
    order = np.asarray(selected, dtype=np.float64) * (1 if larger else -1)
    scores = np.asarray(reported, dtype=np.float64)
    _, place, sizes = np.unique(order, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=scores) / sizes
    squares = np.bincount(place, weights=scores**2) / sizes
    budgets = np.arange(1, len(scores) + 1)[:, None]
    upto = np.cumsum(sizes) / len(scores)
    chances = upto**budgets - np.concatenate([[0.0], upto[:-1]]) ** budgets
    mean = chances @ means
    return mean, np.sqrt(np.maximum(chances @ squares - mean**2, 0))


def section(study: Study) -> Section | None:
    """A curve and a row for each method that was searched at random; None where none was."""
    searches = [search for sweep in sweeps(study.groups) for search in _searches(sweep)]
    if not searches:
        return None
    curves = {search.name: _expected(search.trials, study.metric) for search in searches}
    most = max(len(search.trials) for search in searches)
    lines = [_line(search, _look(search, searches, study), *curves[search.name]) for search in searches]
    held_out = all("selection_score" in run.results for search in searches for run in search.trials)
    how = "chosen on a held-out part of training" if held_out else "chosen on the reported split, so a little too good"
    caption = (
        f"Validation {study.metric} of the best of n trials, {how}: mean and standard deviation over which n of the trials "
        "are drawn. Trials that were guided by earlier ones (Optuna's TPE) count as if they came in any order."
    )
    panel = Curves(f"expected {study.metric} of the best", "trials", "", lines, log_x=most > SHOWN[4])
    columns = sorted({budget for budget in SHOWN if budget < most} | {most})
    rows = [[method, str(len(mean)), *_cells(mean, columns, study.metric)] for method, (mean, _) in curves.items()]
    header = ["method", "trials", *(f"best of {budget}" for budget in columns)]
    table = Table("best-of-n", f"Expected {study.metric} of the best of n trials, {how}.", header, rows)
    return Section(
        "What does tuning buy?", "", [Figure("expected-best", caption, [panel]), table], _sentence(curves, study)
    )


def _searches(sweep: Sweep) -> list[Search]:
    found = []
    for groups in families(sweep.groups):
        trials = _trials(Sweep(sweep.method, varied(groups), groups))
        if trials:
            found.append(Search(sweep.method, name_of_family(groups), trials))
    return found


def _trials(sweep: Sweep) -> list[Run]:
    """The trials of a random search, one seed each: some number has another value in every setting that was tried."""
    drawn = [key for key in sweep.keys if numeric(sweep.groups, key)]
    if len(sweep.groups) < TRIALS or all(len(levels(sweep.groups, key)) < len(sweep.groups) for key in drawn):
        return []
    seed = Counter(seed for group in sweep.groups for seed in group.runs).most_common(1)[0][0]
    return [group.runs[seed] for group in sweep.groups if seed in group.runs]


def _expected(trials: Sequence[Run], metric: str) -> tuple[np.ndarray, np.ndarray]:
    results: list[dict[str, Any]] = [run.results for run in trials]
    selected = [one.get("selection_score", one["score"]) for one in results]
    mean, deviation = expected_best(selected, [one["score"] for one in results], larger_is_better(metric))
    return scale(metric) * mean, scale(metric) * deviation


def _look(search: Search, searches: Sequence[Search], study: Study) -> Look:
    alike = [other for other in searches if other.method == search.method]
    return Look(study.methods.index(search.method), alike.index(search))


def _line(search: Search, look: Look, mean: np.ndarray, deviation: np.ndarray) -> Line:
    return Line(search.name, look, np.arange(1, len(mean) + 1), mean, mean - deviation, mean + deviation)


def _cells(mean: np.ndarray, budgets: Sequence[int], metric: str) -> list[str]:
    return [_written(mean[budget - 1], metric) if budget <= len(mean) else "–" for budget in budgets]


def _written(value: float, metric: str) -> str:
    return f"{value:.{1 if scale(metric) > 1 else 3}f}"


def _sentence(curves: dict[str, tuple[np.ndarray, np.ndarray]], study: Study) -> str:
    told = [
        f"{method} from {_written(mean[0], study.metric)} with one trial to {_written(mean[-1], study.metric)} with the best "
        f"of {len(mean)}"
        for method, (mean, _) in curves.items()
    ]
    return f"Expected validation {study.metric}: {'; '.join(told)}."
