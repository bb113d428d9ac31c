"""Gradient flow: does the gradient reach the first layers, at which steps, and does a method change that?"""

from __future__ import annotations

from typing import Any

import numpy as np

from selfdistill_cli.reports.content import Figure, Section, Table, file_name
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.drawing import legend_below, line, panels
from selfdistill_cli.reports.variants import Group, Study

WORDS = """Runs with runtime.diagnostics=gradients record the 2-norm of each layer's gradient, before clipping, at up to \
200 steps. The ratio of first to last layer falls where gradients vanish on their way down: a method that mitigates \
vanishing gradients lifts it against vanilla at the same time of training."""

PREFIX = "norm/"
MOST = 6


def section(study: Study) -> Section | None:
    """A heat map a method, the ratio over time, and a table of its means."""
    parts: list[str | Table | Figure] = []
    rows: list[list[str]] = []
    for task in study.tasks:
        groups = [g for g in study.of_task(task) if g.first.rows.get("gradients")]
        if not groups:
            continue
        shown = groups[:MOST]
        some = f" (the first {MOST} of {len(groups)} methods)" if len(groups) > MOST else ""
        parts += [_maps(task, shown, some), _ratios(task, shown, some)]
        rows += [_row(task, group) for group in groups]
    if rows:
        header = [
            "method",
            "task",
            "first / last layer: first third",
            "second third",
            "last third",
            "first layer's norm",
        ]
        caption = "Geometric means over steps and seeds of the ratio of the first to the last layer's gradient norm."
        parts.append(Table("gradients", caption, header, rows))
    return Section("Do gradients reach the first layers?", WORDS, parts) if parts else None


def _layers(group: Group) -> list[str]:
    """Names in the order of the network, the output layer last."""
    return [name.removeprefix(PREFIX) for name in group.first.rows["gradients"][0] if name.startswith(PREFIX)]


def _ends(group: Group) -> tuple[str, str]:
    """The first and last layer of the stack that all examples pass."""
    stack = [name for name in _layers(group) if "layer" in name] or _layers(group)
    return stack[0], stack[-1]


def _ratio(rows: list[dict[str, Any]], ends: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    x, first = series(rows, PREFIX + ends[0])
    _, last = series(rows, PREFIX + ends[1])
    return x, np.log10(np.maximum(first, 1e-30) / np.maximum(last, 1e-30))


def _maps(task: str, groups: list[Group], some: str) -> Figure:
    def draw() -> Any:
        figure, axes = panels(len(groups))
        pictures = []
        for group in groups:
            layers = _layers(group)
            curves = [
                [series(run.rows.get("gradients", []), PREFIX + layer) for run in group.runs.values()]
                for layer in layers
            ]
            means = [over_seeds([(x, np.log10(np.maximum(y, 1e-30))) for x, y in curve]) for curve in curves]
            pictures.append((group, layers, means[0][0], np.stack([mean for _, mean, _ in means])))
        low, high = min(p[3].min() for p in pictures), max(p[3].max() for p in pictures)
        for axis, (group, layers, places, values) in zip(axes, pictures, strict=True):
            image = axis.imshow(
                values, aspect="auto", vmin=low, vmax=high, interpolation="nearest",
                extent=(places[0], places[-1], len(layers) - 0.5, -0.5),
            )  # fmt: skip
            axis.grid(False)
            axis.set_yticks(range(len(layers)), layers)
            axis.set(xlabel="epoch", title=group.variant)
        figure.colorbar(image, ax=axes, label="log10 of the norm", shrink=0.8)
        return figure

    caption = (
        f"{task}: gradient norms by layer over training{some}, geometric mean over seeds. One scale for all panels."
    )
    return Figure(file_name("gradients", task), caption, draw)


def _ratios(task: str, groups: list[Group], some: str) -> Figure:
    def draw() -> Any:
        figure, (axes,) = panels(1)
        figure.set_size_inches(5.4, 3.6)
        for number, group in enumerate(groups):
            x, mean, sd = over_seeds(
                [_ratio(run.rows.get("gradients", []), _ends(group)) for run in group.runs.values()]
            )
            line(axes, x, mean, sd, group.variant, number)
        first, last = _ends(groups[0])
        axes.axhline(0, color="#8C8C8C", linewidth=0.8, linestyle=":")
        axes.set(xlabel="epoch", ylabel=f"log10 ({first} / {last})")
        legend_below(figure, axes)
        return figure

    caption = (
        f"{task}: first against last layer over training{some}; mean ± standard deviation over seeds of the logarithm."
    )
    return Figure(file_name("gradient-ratio", task), caption, draw)


def _row(task: str, group: Group) -> list[str]:
    ends = _ends(group)
    _, mean, _ = over_seeds([_ratio(run.rows.get("gradients", []), ends) for run in group.runs.values()])
    norms = np.concatenate([series(run.rows.get("gradients", []), PREFIX + ends[0])[1] for run in group.runs.values()])
    thirds = [f"{10 ** float(part.mean()):.3f}" if len(part) else "–" for part in np.array_split(mean, 3)]
    return [group.variant, task, *thirds, f"{float(np.exp(np.log(np.maximum(norms, 1e-30)).mean())):.3g}"]
