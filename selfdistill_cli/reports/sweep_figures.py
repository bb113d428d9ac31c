"""The figures of a sweep: heat maps of grids, curves and intervals of lines, dots of a random search."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from pyarrow import parquet

from selfdistill_cli.config.metrics import in_percent
from selfdistill_cli.reports.content import Figure, file_name
from selfdistill_cli.reports.lines import said, scale, seeds
from selfdistill_cli.reports.naming import short_key, short_values
from selfdistill_cli.reports.panels import Cells, Curves, Intervals, Line, Look, Mark, Panel
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.sweeps import Scores, Slice, Sweep, levels, numeric, on_same_seeds, slices
from selfdistill_cli.reports.variants import SAME_COMPUTE, Group, Study
from selfdistill_cli.system.words import counted

MOST_PANELS = 6
WIDE = 20
"""A setting whose largest value is so many times its smallest one stands on a logarithmic axis."""
BINS = 5
"""Trials of a random search are averaged in so many parts, as many trials in each."""
MARKED = "; settings marked † ran on other seeds than most and compare only roughly"


def figures_of(study: Study, sweep: Sweep) -> list[Figure]:
    """A figure for all grids over the same settings, for all lines over the same setting, and for the trials."""
    together, trials = slices(sweep)
    made = [_of_slices(study, sweep, same[:MOST_PANELS], len(same)) for same in together]
    return [*made, *([_of_trials(study, sweep, trials)] if trials else [])]


def _of_slices(study: Study, sweep: Sweep, same: Sequence[Slice], of: int) -> Figure:
    groups = [group for one in same for group in one.groups]
    drawing = _Sweep(study, sweep, on_same_seeds(groups))
    keys = same[0].keys
    if len(keys) == 2:
        cells = [drawing.cells(one) for one in same]
        ranges = [one.range() for one in cells]
        limits = min(low for low, _ in ranges), max(high for _, high in ranges)
        panels: list[Panel] = [dataclasses.replace(one, limits=limits) for one in cells]
        how = f"mean ± standard deviation over seeds. The colours span at least {Cells.SCALE} times what seeds alone change, so that noise looks alike"
    else:
        panels = [drawing.line(one) for one in same]
        how = "mean over seeds with its 95 % interval"
    some = f"; {len(same)} of {of} panels" if len(same) < of else ""
    ran = _compared_on(groups, drawing.scores)
    title = f"{sweep.method} over {' and '.join(map(short_key, keys))}"
    caption = f"{title}, {ran}: {how}{MARKED if drawing.scores.marked else ''}{some}."
    return Figure(file_name("sensitivity", title), caption, panels)


def _compared_on(groups: Sequence[Group], scores: Scores) -> str:
    """`3 seeds, at equal compute`: the seeds that count, and whether one setting costs more than another."""
    counts = {len(scores.of(group)) for group in groups}
    costs = [group.compute for group in groups]
    same = ", at equal compute" if max(costs) <= (1 + SAME_COMPUTE) * min(costs) else ""
    if any(len(scores.of(group)) < len(group.runs) for group in groups):
        return f"on the {f'{min(counts)} seeds' if min(counts) > 1 else 'one seed'} that all have{same}"
    return seeds(groups) + same


def _of_trials(study: Study, sweep: Sweep, trials: Sequence[Group]) -> Figure:
    drawing = _Sweep(study, sweep, on_same_seeds(trials))
    panels = [drawing.against(trials, key) for key in sweep.keys[:MOST_PANELS]]
    some = f"; {len(panels)} of {len(sweep.keys)} settings" if len(panels) < len(sweep.keys) else ""
    middle = (
        f" The line is the mean of {BINS} parts with as many trials each, with its 95 % interval."
        if len(trials) >= 2 * BINS
        else ""
    )
    caption = (
        f"{sweep.method}, {counted(len(trials), 'trial')} of a search, a dot each, against each setting{some}.{middle}"
    )
    return Figure(file_name("sensitivity", f"{sweep.method} trials"), caption, panels)


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """Panels of one sweep. Scores are drawn as papers print them."""

    study: Study
    sweep: Sweep
    scores: Scores

    @property
    def _scale(self) -> int:
        return scale(self.study.metric)

    @property
    def _look(self) -> Look:
        return Look(self.study.look(self.sweep.groups[0]).method)

    def _words(self, key: str) -> dict[str, str]:
        return short_values(group.settings.get(key) for group in self.sweep.groups)

    def _title(self, one: Slice) -> str:
        fixed = ", ".join(f"{short_key(key)}={self._words(key)[str(value)]}" for key, value in one.fixed.items())
        return f"{self.study.metric} at {fixed}" if fixed else self.study.metric

    def _noise(self) -> float:
        """Standard deviation between seeds; of one seed, what the draw of validation examples makes of a share."""
        if self.scores.spread is not None:
            return self.scores.spread
        best = self.sweep.groups[0]
        share = self.scores.by_variant.get(best.variant, best.scores)[0]
        predictions = best.first.file("predictions.parquet")
        if predictions is None or not in_percent(self.study.metric) or not 0 < share < 1:
            return 0.0
        splits = parquet.read_table(predictions, columns=["split"])["split"].to_pylist()
        return float((share * (1 - share) / splits.count(splits[0])) ** 0.5)  # the score is of the first

    def cells(self, one: Slice) -> Cells:
        """A heat map of two settings."""
        x, y = one.keys
        columns, rows = levels(one.groups, x), levels(one.groups, y)
        values = np.full((len(rows), len(columns)), np.nan)
        words = [[""] * len(columns) for _ in rows]
        for group in one.groups:
            i, j = rows.index(group.settings.get(y)), columns.index(group.settings.get(x))
            values[i, j] = self._scale * self.scores.mean(group)
            mark = "†" if group.variant in self.scores.marked else ""
            words[i][j] = said(self.scores.of(group), self.study.metric).replace(" ± ", "\n± ") + mark
        return Cells(
            self._title(one), short_key(x), short_key(y),
            [self._words(y)[str(level)] for level in rows], [self._words(x)[str(level)] for level in columns],
            values, words, self._scale * self._noise(),
        )  # fmt: skip

    def line(self, one: Slice) -> Panel:
        """A curve over a number, or intervals of what is none."""
        (key,) = one.keys
        ordered = [g for level in levels(one.groups, key) for g in one.groups if g.settings.get(key) == level]
        scores = [[self._scale * score for score in self.scores.of(group)] for group in ordered]
        names = [
            self._words(key)[str(g.settings.get(key))] + ("†" if g.variant in self.scores.marked else "")
            for g in ordered
        ]
        if not numeric(one.groups, key):
            marks = [_mark(name, self._look, of) for name, of in zip(names, scores, strict=True)]
            return Intervals(f"{self._title(one)}, by {short_key(key)}", "", marks)
        places = [float(group.settings[key]) for group in ordered]
        means, halves = np.array([fmean(of) for of in scores]), np.array([mean_interval(of) for of in scores])
        line = Line("", self._look, places, means, means - halves, means + halves)
        return Curves(self._title(one), short_key(key), "", [line], log_x=_wide(places), bars=True, ticks=places)

    def against(self, trials: Sequence[Group], key: str) -> Panel:
        """Every trial's score against a setting, and the mean of trials with similar values."""
        if not numeric(trials, key):
            by_level = {
                str(level): [g for g in trials if g.settings.get(key) == level] for level in levels(trials, key)
            }
            marks = [
                _mark(self._words(key)[level], self._look, [self._scale * self.scores.mean(g) for g in members])
                for level, members in by_level.items()
            ]
            return Intervals(f"{self.study.metric}, by {short_key(key)}", "", marks)
        ordered = sorted(trials, key=lambda group: float(group.settings[key]))
        places = np.array([float(group.settings[key]) for group in ordered])
        scores = np.array([self._scale * self.scores.mean(group) for group in ordered])
        lines = [Line("", self._look, places, scores)]
        if len(ordered) >= 2 * BINS:
            parts = np.array_split(np.arange(len(ordered)), BINS)
            middle = [float(np.median(places[part])) for part in parts]
            means = np.array([scores[part].mean() for part in parts])
            halves = np.array([mean_interval(scores[part].tolist()) for part in parts])
            lines.append(Line("", self._look, middle, means, means - halves, means + halves, joined=True))
        return Curves(self.study.metric, short_key(key), "", lines, log_x=_wide(places), dots=True)


def _mark(row: str, look: Look, scores: list[float]) -> Mark:
    mean, half = fmean(scores), mean_interval(scores)
    return Mark(row, look, mean, mean - half, mean + half, scores if len(scores) > 1 else ())


def _wide(places: Sequence[float] | np.ndarray) -> bool:
    return bool(min(places) > 0 and max(places) / min(places) >= WIDE)
