"""How panels look: one colour and marker a method, each panel a picture of its own, so that a page can wrap them."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from selfdistill_cli.reports.panels import Cells, Curves, Intervals, Legend, Look, Panel, legend

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
CLOSER = 12
"""From so many rows on, they stand closer to each other."""
ACROSS = 3
"""Pictures beside each other in a file; of four, two."""
STEPS = [1, 2, 5, 10]
"""Between ticks, times a power of ten."""
LETTERS = 46
"""Of a title or a legend's line."""
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.cmap": "cividis",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@contextmanager
def in_style() -> Iterator[None]:
    """While this lasts, figures are drawn and saved in our style."""
    with matplotlib.rc_context(STYLE):
        yield


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


def pictures(panels: Sequence[Panel], name: str) -> list[str]:
    """A standalone SVG for each panel, and one for their legend if they need one; the same for the same panels.

    `name` keeps the identifiers of a picture apart from those of others on a page.
    """
    with in_style():
        figures = [_alone(panel) for panel in panels]
        shared = legend(panels)
        if shared.entries:
            figures.append(_legend(shared))
        return [_svg(figure, f"{name}-{number}") for number, figure in enumerate(figures)]


def whole(panels: Sequence[Panel]) -> Figure:
    """All panels and their legend in one matplotlib figure, for a PDF; to be saved `in_style()`."""
    columns = _across(len(panels))
    lines = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    heights = [max(_size(panel)[1] for panel in line) for line in lines]
    widest = max(_size(panel)[0] for panel in panels)
    with in_style():
        entries = legend(panels).entries
        below = 0.2 * -(-len(entries) // columns)
        figure = Figure(figsize=(widest * columns, sum(heights) + below), layout="constrained")
        axes = list(figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).flat)
        for axis, panel in zip(axes, panels, strict=False):
            _draw(figure, axis, panel)
        for spare in axes[len(panels) :]:
            spare.set_visible(False)
        if entries:
            figure.legend(handles=_handles(entries), loc="outside lower center", ncols=min(columns, len(entries)))
    return figure


def together(svgs: Sequence[str]) -> str:
    """Pictures beside each other, at most ACROSS in a line, as one standalone SVG on white."""
    placed, left, top, line, width = [], 0.0, 0.0, 0.0, 0.0
    for number, svg in enumerate(svgs):
        across, down = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
        if number and number % _across(len(svgs)) == 0:
            left, top, line = 0.0, top + line, 0.0
        placed.append(f'<svg x="{left:g}" y="{top:g}" width="{across:g}" height="{down:g}"{_body(svg)}')
        left, line, width = left + across, max(line, down), max(width, left + across)
    size = f'viewBox="0 0 {width:g} {top + line:g}" width="{width:g}pt" height="{top + line:g}pt"'
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {namespaces} {size} style="background: white">\n{"".join(placed)}</svg>\n'


def _across(count: int) -> int:
    return 2 if count == 4 else min(count, ACROSS)


def _body(svg: str) -> str:
    """An SVG from its viewBox on."""
    return svg[svg.index(" viewBox=") :]


def on_a_page(svg: str) -> str:
    """What `pictures` gave, its ink the colour of the text around it: it reads on light and dark pages alike."""
    return svg.replace(INK, "currentColor")


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
    # Where a page lays pictures out in lines: as wide as drawn, a little less or more where that fills the line.
    width = 72 * figure.get_figwidth()
    grows = 0 if not figure.axes else 1
    return svg.replace("<svg", f'<svg style="flex: {grows} 1 {0.9 * width:.0f}pt; max-width: {1.2 * width:.0f}pt"', 1)


def _alone(panel: Panel) -> Figure:
    figure = Figure(figsize=_size(panel), layout="constrained")
    _draw(figure, figure.subplots(), panel)
    return figure


def _legend(shared: Legend) -> Figure:
    handles = _handles(shared.entries)
    words = [line for label in shared.entries for line in _wrapped(label).split("\n")]
    width, height = 0.7 + 0.075 * max(map(len, words)), 0.16 * len(words) + 0.06 * len(handles) + 0.1
    figure = Figure(figsize=(min(WIDTH, width), height))
    figure.legend(handles=handles, loc="upper left", borderaxespad=0.2)
    return figure


def _handles(entries: dict[str, Look]) -> list[Line2D]:
    return [Line2D([], [], label=_wrapped(label), **line_style(look)) for label, look in entries.items()]


def _wrapped(words: str, letters: int = LETTERS) -> str:
    """In lines that fit, broken after spaces and the signs of settings; a part that is longer is broken anywhere."""
    lines = [""]
    for whole in re.split(r"(?<=[ =_/])", words):
        for part in textwrap.wrap(whole, letters, drop_whitespace=False):
            if len(lines[-1] + part.rstrip()) > letters:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _size(panel: Panel) -> tuple[float, float]:
    """Inches: wider where columns with words are many, higher where rows are."""
    above = 0.15 * (_title(panel).count("\n") + 1) if panel.title else 0.0
    if isinstance(panel, Curves):
        return WIDTH, HEIGHT
    if isinstance(panel, Intervals):
        least = 1.5 if len(panel.places) < CLOSER else 1.15
        lines = sum(max(least, _row_name(row).count("\n") + 1) for row in panel.rows)
        return WIDTH, max(1.2, ROW * lines + 0.6 + above)
    lines = sum(max(2 if panel.words else 0.9, _row_name(row).count("\n") + 1) for row in panel.rows)
    return WIDTH * max(1, len(panel.columns) / 7 if panel.words else 1), max(1.4, ROW * lines + 0.7 + above)


def _title(panel: Panel) -> str:
    """It stands above the axes, beside which the names of rows take room."""
    rows = () if isinstance(panel, Curves) else panel.rows
    beside = max((len(line) for row in rows for line in _row_name(row).split("\n")), default=6)
    return _wrapped(panel.title, LETTERS - beside)


def _row_name(row: str) -> str:
    return _wrapped(row, 22)


def _draw(figure: Figure, axes: Any, panel: Panel) -> None:
    axes.set_title(_title(panel))
    axes.set_xlabel(panel.x)
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
            axes.annotate(block, (0.01, place), fontweight="bold", **left).set_in_layout(False)
    if any(not row for _, row in rows):
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
