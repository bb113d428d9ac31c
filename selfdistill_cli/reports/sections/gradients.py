"""Gradient flow: does the gradient reach the first layers, at which steps, and does a method change that?"""

from __future__ import annotations

from typing import Any

import numpy as np

from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.lines import Curve, extremes, line_of, over, pages, part, seeds, shown
from selfdistill_cli.reports.panels import Cells, Curves
from selfdistill_cli.reports.variants import Group, Study

WORDS = """2-norms of each layer's gradient before clipping, at up to 200 steps. The ratio of first to last layer falls where \
gradients vanish on their way down: a method that mitigates vanishing gradients lifts it against vanilla at the same time of \
training."""

PREFIX = "norm/"


def section(study: Study) -> Section | None:
    """The ratio over time, a heat map a method, and a table of its means."""
    groups = [group for group in shown(study.groups) if group.first.rows.get("gradients")]
    if not groups:
        return None
    thirds = {group.variant: _thirds(group) for group in groups}
    first, last = (extremes({variant: of[place] for variant, of in thirds.items()}, ".2f") for place in (0, -1))
    split = pages(groups)
    parts: list[str | Table | Figure] = [
        *(_ratios(study, members, number, len(split)) for number, members in enumerate(split)),
        *(_maps(members, number, len(split)) for number, members in enumerate(split)),
    ]
    header = ["method", "first / last layer: first third", "second third", "last third", "first layer's norm"]
    caption = "Geometric means over steps and seeds of the ratio of the first to the last layer's gradient norm."
    parts.append(
        Table(
            "gradients-means",
            caption,
            header,
            [[g.variant, *(f"{ratio:.3f}" for ratio in thirds[g.variant]), _first_norm(g)] for g in groups],
        )
    )
    finding = (
        f"First layer's gradient over the last layer's: {first} in the first third of training, {last} in the last."
    )
    return Section("Do gradients reach the first layers?", WORDS, parts, finding)


def _layers(group: Group) -> list[str]:
    """Names in the order of the network, the output layer last."""
    return [name.removeprefix(PREFIX) for name in group.first.rows["gradients"][0] if name.startswith(PREFIX)]


def _ends(group: Group) -> tuple[str, str]:
    """The first and last layer of the stack that all examples pass."""
    stack = [name for name in _layers(group) if "layer" in name] or _layers(group)
    return stack[0], stack[-1]


def _log(values: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(values, 1e-30))


def _ratio(rows: list[dict[str, Any]], ends: tuple[str, str]) -> Curve:
    x, first = series(rows, PREFIX + ends[0])
    _, last = series(rows, PREFIX + ends[1])
    return x, _log(first) - _log(last)


def _ratio_curves(group: Group) -> list[Curve]:
    return [_ratio(run.rows.get("gradients", []), _ends(group)) for run in group.runs.values()]


def _ratios(study: Study, groups: list[Group], number: int, of: int) -> Figure:
    first, last = _ends(groups[0])
    found = [line_of(study, group, _ratio_curves(group)) for group in groups]
    panel = Curves(f"log10 ({first} / {last})", "epoch", "", [one for one in found if one], level=0)
    caption = f"Ratio of the first to the last layer's gradient{part(number, of)}: {over(groups)}."
    return Figure(f"gradient-ratio-{number + 1}" if number else "gradient-ratio", caption, [panel])


def _maps(groups: list[Group], number: int, of: int) -> Figure:
    made = []
    for group in groups:
        layers = _layers(group)
        found = []
        for layer in layers:
            curves = [series(run.rows.get("gradients", []), PREFIX + layer) for run in group.runs.values()]
            found.append(over_seeds([(x, _log(y)) for x, y in curves]))
        places, values = found[0][0], np.stack([mean for _, mean, _ in found])
        made.append((group.variant, layers, [f"{place:.1f}" for place in places], values))
    limits = min(float(values.min()) for *_, values in made), max(float(values.max()) for *_, values in made)
    panels = [
        Cells(variant, "epoch", "", layers, places, values, limits=limits, scale="log10 of the norm")
        for variant, layers, places, values in made
    ]
    caption = f"Gradient norms by layer over training{part(number, of)}, geometric mean over {seeds(groups)}; one scale for all panels."
    return Figure(f"gradients-{number + 1}" if number else "gradients", caption, panels)


def _thirds(group: Group) -> list[float]:
    """Geometric mean of the ratio in each third of training."""
    _, mean, _ = over_seeds(_ratio_curves(group))
    return [10 ** float(third.mean()) if len(third) else float("nan") for third in np.array_split(mean, 3)]


def _first_norm(group: Group) -> str:
    first, _ = _ends(group)
    norms = [series(run.rows.get("gradients", []), PREFIX + first)[1] for run in group.runs.values()]
    return f"{10 ** float(_log(np.concatenate(norms)).mean()):.3g}"
