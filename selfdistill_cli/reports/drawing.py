"""How figures look: one palette that the colour-blind can tell apart, markers and dashes beside it, SVG and PNG."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's, without black (dark pages) and yellow (light ones)."""
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":")
INK = "#1b1b1b"
PANEL = (3.6, 2.9)
"""Inches of one panel."""
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.cmap": "cividis",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def in_style() -> AbstractContextManager[None]:
    """While this lasts, figures are drawn and saved in our style."""
    return matplotlib.rc_context(STYLE)


def line_style(number: int) -> dict[str, Any]:
    """Colour, marker and dash of the line with this number: no two of 28 are alike."""
    colours = len(COLOURS)
    return {
        "color": COLOURS[number % colours],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number // colours % len(DASHES)],
        "markersize": 3.5,
        "linewidth": 1.4,
    }


def panels(count: int, across: int = 2) -> tuple[Figure, list[Any]]:
    """A figure of so many panels, at most `across` beside each other."""
    columns = min(count, across)
    lines = math.ceil(count / columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return figure, flat[:count]


def line(axes: Any, x: Any, mean: Any, spread: Any, label: str, number: int) -> None:
    """A curve with its band."""
    style = line_style(number)
    axes.plot(x, mean, label=label, markevery=max(1, len(x) // 8), **style)
    if np.any(spread):
        axes.fill_between(x, mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)


def legend_below(figure: Any, axes: Any) -> None:
    """One legend for all panels, under them."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        wide = max(map(len, labels)) > 24 or figure.get_figwidth() < 5
        figure.legend(handles, labels, loc="outside lower center", ncols=1 if wide else min(3, len(labels)))


def heat_map(
    axes: Any, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], words: Callable[[int, int], str]
) -> None:
    """Values [R, C] as colours with words in the cells; missing ones stay empty and say so."""
    image = axes.imshow(np.ma.masked_invalid(values), aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for i, j in np.ndindex(values.shape):
        if np.isnan(values[i, j]):
            axes.text(j, i, "no run", ha="center", va="center", fontsize=7, color=INK)
            continue
        dark = image.norm(values[i, j]) < 0.55
        axes.text(j, i, words(i, j), ha="center", va="center", fontsize=7, color="white" if dark else "black")


def wrapped(title: str) -> str:
    """A title of one panel, in lines that fit."""
    return textwrap.fill(title, 58)


def on_a_page(svg: str) -> str:
    """What `as_svg` gave, its ink the colour of the text around it, so that it reads on light and dark pages alike."""
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def as_svg(figure: Any, name: str) -> str:
    """A standalone SVG, the same for the same figure; `name` keeps its identifiers apart from others' on a page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", buffer.getvalue())


def as_png(figure: Any) -> bytes:
    """PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()
