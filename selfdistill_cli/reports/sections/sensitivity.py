"""Sensitivity: how a score moves with τ, α, λ and whatever else a sweep varied."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.content import Figure, Section, Table, file_name, spread
from selfdistill_cli.reports.drawing import heat_map, legend_below, line_style, panels, wrapped
from selfdistill_cli.reports.naming import identity, names, short_key, short_values
from selfdistill_cli.reports.runs import Settings
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.variants import Group, Study, but_the_method

WORDS = """Wherever runs of one method differ in a setting, its score is shown against that setting: heat maps for two, \
curves for numbers. Cells are means over seeds ± standard deviation; error bars are 95 % intervals of the mean over seeds. \
The best of many cells is better by chance: judge it by its neighbours, which differ from it in one step of one setting."""

FIRST = ("method.tau", "method.lambda_", "method.tau_rule", "method.start_epoch")
"""Settings that stand on the horizontal axis where they vary."""


def section(study: Study) -> Section | None:
    """A figure and a table for each task and method with several settings."""
    parts: list[str | Table | Figure] = []
    best: list[list[str]] = []
    for title, groups in _sweeps(study):
        keys = varied(groups)
        parts += _figures(title, groups, keys)
        best.append(_best(title, groups, keys))
    if best:
        header = ["sweep", "cells", "best setting", "its score", "its neighbours", "all cells", "spread over seeds"]
        caption = "Best cell and its neighbourhood. Spread over seeds: median over cells of the standard deviation."
        parts.insert(0, Table("best-cells", caption, header, best))
    return Section("How sensitive is it?", WORDS, parts) if parts else None


def _sweeps(study: Study) -> list[tuple[str, list[Group]]]:
    """Groups of one task, model, method and schedule, with a title that no other sweep has."""
    common = [_common(group) for group in study.groups]
    titles = dict(zip(map(identity, common), names(common, "method.name"), strict=True))
    by_sweep: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for task in study.tasks:
        for group in study.of_task(task):
            by_sweep[task, titles[identity(_common(group))]].append(group)
    return [(f"{sweep} on {task}", groups) for (task, sweep), groups in by_sweep.items() if varied(groups)]


def _common(group: Group) -> Settings:
    """What the cells of a sweep have in common besides the task."""
    settings = but_the_method(group.settings) | {"method.name": group.settings["method.name"]}
    return {key: value for key, value in settings.items() if not key.startswith("task.")}


def varied(groups: Sequence[Group]) -> list[str]:
    """The method's settings in which these groups differ, those of the horizontal axis first."""
    keys = {key for group in groups for key in group.settings if key.startswith("method.")}
    differing = [k for k in keys if len({str(group.settings.get(k)) for group in groups}) > 1]
    return sorted(differing, key=lambda k: (FIRST.index(k) if k in FIRST else len(FIRST), k))


def levels(groups: Sequence[Group], key: str) -> list[Any]:
    """The values of a setting, numbers by size."""
    values = {str(g.settings.get(key)): g.settings.get(key) for g in groups}
    return sorted(values.values(), key=lambda v: (isinstance(v, str), v if isinstance(v, (int, float)) else 0, str(v)))


def _words(groups: Sequence[Group], key: str) -> dict[str, str]:
    return short_values(group.settings.get(key) for group in groups)


def _figures(title: str, groups: list[Group], keys: list[str]) -> list[Figure]:
    metric = groups[0].first.results["metric"]
    if len(keys) == 1:
        return [_curves("sensitivity", title, groups, keys[0], None, metric)]
    x, y, *rest = keys
    figures = []
    for fixed in itertools.product(*(levels(groups, key) for key in rest)):
        chosen = [g for g in groups if all(g.settings.get(k) == v for k, v in zip(rest, fixed, strict=True))]
        if len(chosen) < 2:
            continue
        said = (f"{short_key(k)}={_words(groups, k)[str(v)]}" for k, v in zip(rest, fixed, strict=True))
        whole = ", ".join([title, *said])
        figures.append(_heat(whole, chosen, x, y, metric))
        if all(isinstance(v, (int, float)) for v in levels(chosen, x)):
            figures.append(_curves("curves", whole, chosen, x, y, metric))
    return figures


def _heat(title: str, groups: list[Group], x: str, y: str, metric: str) -> Figure:
    columns, rows = levels(groups, x), levels(groups, y)
    across, down = _words(groups, x), _words(groups, y)
    cells = {(str(g.settings.get(y)), str(g.settings.get(x))): g.scores for g in groups}
    scores = [[cells.get((str(r), str(c)), []) for c in columns] for r in rows]

    def draw() -> Any:
        figure, (axes,) = panels(1)
        figure.set_size_inches(max(4.2, 1.1 * len(columns) + 1.6), max(2.4, 0.55 * len(rows) + 1.2))
        means = np.array([[fmean(cell) if cell else np.nan for cell in line] for line in scores])
        labels = [down[str(r)] for r in rows], [across[str(c)] for c in columns]
        heat_map(axes, means, *labels, lambda i, j: _cell(scores[i][j]))
        axes.set(xlabel=short_key(x), ylabel=short_key(y), title=wrapped(f"{title}: {metric}"))
        return figure

    caption = f"{title}: {metric} by {short_key(x)} and {short_key(y)}; mean ± standard deviation over seeds."
    return Figure(file_name("sensitivity", title), caption, draw)


def _cell(scores: Sequence[float]) -> str:
    return f"{fmean(scores):.3f}" + (f"\n± {stdev(scores):.3f}" if len(scores) > 1 else "")


def _curves(kind: str, title: str, groups: list[Group], x: str, by: str | None, metric: str) -> Figure:
    def draw() -> Any:
        figure, (axes,) = panels(1)
        figure.set_size_inches(5, 3.4)
        places = levels(groups, x)
        number = all(isinstance(v, (int, float)) for v in places)
        for count, level in enumerate(levels(groups, by) if by else [None]):
            chosen = sorted(
                (g for g in groups if by is None or g.settings.get(by) == level),
                key=lambda g: [str(v) for v in places].index(str(g.settings.get(x))),
            )
            label = f"{short_key(by)}={_words(groups, by)[str(level)]}" if by else None
            at = [g.settings[x] if number else [str(v) for v in places].index(str(g.settings.get(x))) for g in chosen]
            means, errors = [fmean(g.scores) for g in chosen], [mean_interval(g.scores) for g in chosen]
            axes.errorbar(at, means, yerr=errors, capsize=3, label=label, **line_style(count))
        if not number:
            axes.set_xticks(range(len(places)), [_words(groups, x)[str(v)] for v in places])
        axes.set(xlabel=short_key(x), ylabel=metric, title=wrapped(title))
        legend_below(figure, axes)
        return figure

    caption = f"{title}: {metric} over {short_key(x)}; bars are 95 % intervals of the mean over seeds."
    return Figure(file_name(kind, title), caption, draw)


def _best(title: str, groups: list[Group], keys: list[str]) -> list[str]:
    best_of = max if larger_is_better(groups[0].first.results["metric"]) else min
    best = best_of(groups, key=lambda g: fmean(g.scores))
    near = [g for g in groups if g is not best and neighbours(best, g, groups, keys)]
    every = [fmean(g.scores) for g in groups]
    deviations = [stdev(g.scores) for g in groups if len(g.scores) > 1]
    return [
        title,
        str(len(groups)),
        ", ".join(f"{short_key(k)}={_words(groups, k)[str(best.settings.get(k))]}" for k in keys),
        f"{spread(best.scores)} ({len(best.runs)})",
        f"{fmean(fmean(g.scores) for g in near):.4f} ({len(near)})" if near else "–",
        f"{min(every):.4f} … {max(every):.4f}",
        f"{float(np.median(deviations)):.4f}" if deviations else "one seed",
    ]


def neighbours(one: Group, other: Group, groups: Sequence[Group], keys: Sequence[str]) -> bool:
    """Whether two cells differ in one setting, of a number by one step."""
    differing = [key for key in keys if one.settings.get(key) != other.settings.get(key)]
    if len(differing) != 1:
        return False
    steps = levels(groups, differing[0])
    if not all(isinstance(value, (int, float)) for value in steps):
        return True
    places = [steps.index(g.settings[differing[0]]) for g in (one, other)]
    return abs(places[0] - places[1]) == 1
