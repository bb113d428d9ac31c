"""One panel on matplotlib's axes: lines, cells or intervals; a colour and marker a method."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from selfdistill_cli.reports.panels import Cells, Curves, Intervals, Look, Panel

GREY = "#8C8C8C"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without black (dark pages) and yellow (light ones); grey is the baseline's."""
MARKERS = "sD^vPX"
DASHES = ("-", "--", "-.", ":")
INK = "#1b1b1b"
WIDTH = 3.7
"""Inches of one panel: the width of a phone."""
HEIGHT = 2.7
ROW = 0.2
"""Inches of a line of words beside cells or marks."""
HEADING = 50
"""Letters of a heading over rows, which is one line."""
CLOSER = 12
"""From so many rows on, they stand closer to each other."""
STEPS = [1, 2, 5, 10]
"""Between ticks, times a power of ten."""
NARROW = 40
"""A logarithmic axis whose end is at less than so many times its beginning names more than powers of ten."""
LETTERS = 46
"""Of a title or a legend's line."""


def line_style(look: Look) -> dict[str, Any]:
    """Colour and marker of the method, dash and fill of the marker of its setting: no two of 37 × 8 are alike."""
    number = look.method - 1
    colour = GREY if look.method == 0 else COLOURS[number % len(COLOURS)]
    marker = "o" if look.method == 0 else MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return {
        "color": colour,
        "marker": marker,
        "markerfacecolor": "none" if look.setting // len(DASHES) % 2 else colour,
        "linestyle": DASHES[look.setting % len(DASHES)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def wrapped(words: str, letters: int = LETTERS) -> str:
    """In lines that fit, broken after spaces and the signs of settings; a part that is longer is broken anywhere."""
    lines = [""]
    for whole in re.split(r"(?<=[ =_/])", words):
        for part in textwrap.wrap(whole, letters, drop_whitespace=False):
            if len(lines[-1] + part.rstrip()) > letters:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def size(panel: Panel) -> tuple[float, float]:
    """Inches: wider where columns with words are many, higher where rows are."""
    above = 0.15 * (_over_the_axes(panel, panel.title).count("\n") + 1) if panel.title else 0.0
    above += 0.15 * _over_the_axes(panel, panel.x).count("\n")  # and below
    if isinstance(panel, Curves):
        return WIDTH, HEIGHT
    if isinstance(panel, Intervals):
        least = 1.5 if len(panel.places) < CLOSER else 1.15
        lines = sum(max(least, _row_name(row).count("\n") + 1) for row in panel.rows)
        return WIDTH, max(1.2, ROW * lines + 0.6 + above)
    lines = sum(max(2 if panel.words else 0.9, _row_name(row).count("\n") + 1) for row in panel.rows)
    return WIDTH * max(1, len(panel.columns) / 7 if panel.words else 1), max(1.4, ROW * lines + 0.7 + above)


def _over_the_axes(panel: Panel, words: str) -> str:
    """A title, or the name of the horizontal axis, in lines that fit beside which the names of rows take room."""
    rows = () if isinstance(panel, Curves) else panel.rows
    beside = max((len(line) for row in rows for line in _row_name(row).split("\n")), default=6)
    return wrapped(words, LETTERS - beside)


def _row_name(row: str) -> str:
    return wrapped(row, 22)


def draw(figure: Figure, axes: Any, panel: Panel) -> None:
    """All that the panel shows, with its title and names."""
    axes.set_title(_over_the_axes(panel, panel.title))
    axes.set_xlabel(_over_the_axes(panel, panel.x))
    if isinstance(panel, Curves):
        _draw_curves(axes, panel)
    elif isinstance(panel, Cells):
        _draw_cells(figure, axes, panel)
    else:
        _draw_intervals(axes, panel)


def _draw_curves(axes: Any, panel: Curves) -> None:
    for line in panel.lines:
        dots = panel.dots and not line.joined
        style = line_style(line.look) | ({"linestyle": "none", "alpha": 0.6} if dots else {})
        x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
        axes.plot(x, y, markevery=1 if panel.dots or panel.bars else max(1, len(x) // 8), **style)
        if line.low is None or line.high is None:
            continue
        low, high = np.asarray(line.low, dtype=float), np.asarray(line.high, dtype=float)
        if panel.share:
            low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
        if panel.bars:
            axes.errorbar(x, y, yerr=[y - low, high - y], fmt="none", capsize=3, ecolor=style["color"], elinewidth=1)
        else:
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    if panel.level is not None:
        axes.axhline(panel.level, color=GREY, linewidth=0.8, linestyle=":")
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    axes.set_ylabel(panel.y)
    _scales(axes, panel)


def _scales(axes: Any, panel: Curves) -> None:
    for axis, logarithmic in ((axes.xaxis, panel.log_x), (axes.yaxis, panel.log_y)):
        if logarithmic:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < NARROW else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    if panel.ticks:
        axes.set_xticks(
            list(panel.ticks), [f"{place:,.4g}" if place < 1e4 else f"{place:,.0f}" for place in panel.ticks]
        )
        axes.minorticks_off()
    elif not panel.log_x:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    if panel.share:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.02), min(high, 1.02))


def _draw_cells(figure: Figure, axes: Any, panel: Cells) -> None:
    low, high = panel.range()
    norm = Normalize(low, high if high > low else low + 1)
    image = axes.imshow(np.ma.masked_invalid(panel.values), aspect="auto", norm=norm, interpolation="nearest")
    axes.grid(False)
    axes.set_ylabel(panel.y)
    axes.set_yticks(range(len(panel.rows)), [_row_name(row) for row in panel.rows])
    named = range(0, len(panel.columns), 1 if panel.words else max(1, len(panel.columns) // 5))
    axes.set_xticks(list(named), [panel.columns[j] for j in named])
    for i, j in np.ndindex(panel.values.shape if panel.words else (0, 0)):
        there = not np.isnan(panel.values[i, j])
        colour = ("white" if norm(panel.values[i, j]) < 0.47 else "black") if there else INK
        axes.text(j, i, panel.words[i][j] if there else "–", ha="center", va="center", fontsize=7, color=colour)
    if panel.scale:
        figure.colorbar(image, ax=axes, label=panel.scale, shrink=0.9)


def _draw_intervals(axes: Any, panel: Intervals) -> None:
    rows, kinds = panel.places, list(dict.fromkeys(mark.label for mark in panel.marks))
    for mark in panel.marks:
        place = rows.index((mark.block, mark.row)) + (kinds.index(mark.label) - (len(kinds) - 1) / 2) * 0.3
        style = line_style(mark.look) | {"linestyle": "none"}
        if not np.isnan(mark.low):
            axes.plot([mark.low, mark.high], [place, place], color=style["color"], linewidth=1.2)
        axes.plot([mark.value], [place], **style | {"markersize": 6})
        axes.plot(mark.dots, [place] * len(mark.dots), "o", color=style["color"], markersize=3, alpha=0.5, mew=0)
    if panel.level is not None:
        axes.axvline(panel.level, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [_row_name(row) for _, row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for place, (block, row) in enumerate(rows):
        if not row:  # from the left edge on, over names and axes
            left = {"xycoords": ("figure fraction", "data"), "va": "center", "annotation_clip": False}
            name = textwrap.shorten(block, HEADING, placeholder=" …")
            axes.annotate(name, (0.01, place), fontweight="bold", fontsize=8, **left).set_in_layout(False)
    if any(not row for _, row in rows):
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
