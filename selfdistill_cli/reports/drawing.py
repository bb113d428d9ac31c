"""Panels as pictures: each one of its own, so that a page can wrap them; together in one file; or one figure for a PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib

matplotlib.use("agg")
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from selfdistill_cli.reports.panels import Legend, Look, Panel, legend
from selfdistill_cli.reports.plotting import INK, WIDTH, draw, line_style, size, wrapped

ACROSS = 3
"""Pictures beside each other in a file; of four, two."""
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
    heights = [max(size(panel)[1] for panel in line) for line in lines]
    widest = max(size(panel)[0] for panel in panels)
    with in_style():
        entries = legend(panels).entries
        below = 0.2 * -(-len(entries) // columns)
        figure = Figure(figsize=(widest * columns, sum(heights) + below), layout="constrained")
        axes = list(figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).flat)
        for axis, panel in zip(axes, panels, strict=False):
            draw(figure, axis, panel)
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
    figure = Figure(figsize=size(panel), layout="constrained")
    draw(figure, figure.subplots(), panel)
    return figure


def _legend(shared: Legend) -> Figure:
    handles = _handles(shared.entries)
    words = [line for label in shared.entries for line in wrapped(label).split("\n")]
    width, height = 0.7 + 0.075 * max(map(len, words)), 0.16 * len(words) + 0.06 * len(handles) + 0.1
    figure = Figure(figsize=(min(WIDTH, width), height))
    figure.legend(handles=handles, loc="upper left", borderaxespad=0.2)
    return figure


def _handles(entries: dict[str, Look]) -> list[Line2D]:
    return [Line2D([], [], label=wrapped(label), **line_style(look)) for label, look in entries.items()]
