"""How methods learn: training loss and validation score over epochs, and when dynamic and static self-distillation part."""

from __future__ import annotations

import itertools
from statistics import fmean

import numpy as np

from selfdistill_cli.config.metrics import larger_is_better
from selfdistill_cli.reports.content import Figure, Section, Table
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.lines import lines, over, pages, part, said, scale, shown
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.variants import BASELINE, Group, Study, has

LOSSES = {"regression": "squared error"}
"""What the supervised loss is called, by kind of task; of all others cross-entropy."""
APART = 0.01
"""Training losses have parted where they differ by this share of the static one."""


def section(study: Study) -> Section | None:
    """Learning curves, and the partings where there are some."""
    groups = [group for group in shown(study.groups) if has(group, "eval", f"eval/{study.metric}")]
    if not groups:
        return None
    split = pages(groups)
    figures = [_figure(study, members, number, len(split)) for number, members in enumerate(split)]
    parts: list[str | Table | Figure] = [figure for figure in figures if figure.panels]
    partings = _partings(study)
    if partings:
        header = [
            "dynamic",
            "static",
            "seeds",
            "training losses part at epoch",
            "scores part at epoch",
            "last difference",
        ]
        caption = (
            "When dynamic and static self-distillation part, seed by seed on the same batches. Training losses: the first of 100 "
            f"stretches from which their mean difference stays beyond {APART:.0%} of the static loss. Scores: the first "
            "evaluation from which the 95 % interval of the mean difference over seeds stays off zero."
        )
        parts.append(Table("partings", caption, header, partings))
    return Section("How do they learn?", "", parts, _sentence(study, groups))


def _sentence(study: Study, groups: list[Group]) -> str:
    """Where the curves end, and when they were at their best."""
    better = max if larger_is_better(study.metric) else min
    ends = {group.variant: _ends(study, group) for group in groups}
    others = [group.variant for group in groups if group.settings["method.name"] != BASELINE] or list(ends)
    named = list(dict.fromkeys([better(others, key=lambda variant: fmean(ends[variant][0])), groups[0].variant]))
    told = (f"{name} {said(ends[name][0], study.metric)} (best at epoch {ends[name][1]:.3g})" for name in named)
    return f"{_watched(study).capitalize()} {study.metric} after the last epoch: {', '.join(told)}."


def _watched(study: Study) -> str:
    """What evaluations of training are of: where a part of training selects, they are of that part."""
    held_out = all("selection_score" in run.results for run in study.runs)
    return "held-out" if held_out else "validation"


def _ends(study: Study, group: Group) -> tuple[list[float], float]:
    """Last score of each seed, and the epoch whose mean over seeds is the best."""
    curves = [series(run.rows.get("eval", []), f"eval/{study.metric}") for run in group.runs.values()]
    places, mean, _ = over_seeds(curves)
    best = int(np.argmax(mean) if larger_is_better(study.metric) else np.argmin(mean))
    return [float(y[-1]) for _, y in curves if len(y)], float(places[best])


def _figure(study: Study, groups: list[Group], number: int, of: int) -> Figure:
    kind = str(groups[0].first.results.get("kind"))
    loss = LOSSES.get(kind, "cross-entropy")
    panels = [
        Curves(f"training: {loss} part of the loss", "epoch", "", lines(study, groups, "train", "loss/ce")),
        Curves(
            f"{_watched(study)}: {study.metric}", "epoch", "",
            lines(study, groups, "eval", f"eval/{study.metric}", scale=scale(study.metric)),
        ),
    ]  # fmt: skip
    caption = f"Learning curves{part(number, of)}: {over(groups)}."
    return Figure(
        f"learning-{number + 1}" if number else "learning", caption, [panel for panel in panels if panel.moves]
    )


def _partings(study: Study) -> list[list[str]]:
    moving = [group for group in study.groups if has(group, "train", "tau/mean")]
    return [
        _parting(study.metric, dynamic, static, common)
        for static, dynamic in itertools.product(study.groups, moving)
        if (common := sorted(_recorded(study, dynamic) & _recorded(study, static))) and _adds_rules(dynamic, static)
    ]


def _recorded(study: Study, group: Group) -> set[int]:
    """The seeds of which losses and scores over training can be read: a damaged metrics.jsonl has none."""
    needed = (("train", "loss"), ("eval", f"eval/{study.metric}"))
    return {
        seed
        for seed, run in group.runs.items()
        if all(len(series(run.rows.get(kind, []), name)[0]) for kind, name in needed)
    }


def _adds_rules(dynamic: Group, static: Group) -> bool:
    """Whether `dynamic` is `static` with further settings, its rules, beside the same temperature and all else."""
    ours, theirs = (
        {k: v for k, v in group.settings.items() if k not in ("method.name", "method._target_")}
        for group in (dynamic, static)
    )
    return "method.tau" in theirs and len(ours) > len(theirs) and theirs.items() <= ours.items()


def _parting(metric: str, dynamic: Group, static: Group, common: list[int]) -> list[str]:
    losses, scores = [], []
    for seed in common:
        a, b = dynamic.runs[seed].rows, static.runs[seed].rows
        x, ours = series(a.get("train", []), "loss")
        places, theirs = series(b.get("train", []), "loss")
        beside = np.interp(x, places, theirs)
        losses.append((x, np.abs(ours - beside) / np.maximum(np.abs(beside), 1e-9)))
        x, ours = series(a.get("eval", []), f"eval/{metric}")
        places, theirs = series(b.get("eval", []), f"eval/{metric}")
        scores.append((x, ours - np.interp(x, places, theirs)))
    x, gap, _ = over_seeds(losses)
    at, mean, _ = over_seeds(scores)
    halves = np.array([mean_interval([float(np.interp(place, *curve)) for curve in scores]) for place in at])
    last = scale(metric) * mean[-1]
    return [
        dynamic.variant,
        static.variant,
        str(len(common)),
        _stays(x, gap > APART),
        _stays(at, np.abs(mean) > halves) if len(common) > 1 else "one seed",
        f"{last:+.2f}" + ("" if np.isnan(halves[-1]) else f" ± {scale(metric) * halves[-1]:.2f}"),
    ]


def _stays(places: np.ndarray, apart: np.ndarray) -> str:
    """Where `apart` becomes true for good."""
    if not len(apart) or not apart[-1]:
        return "never"
    together = np.flatnonzero(~apart)
    return f"{places[together[-1] + 1 if len(together) else 0]:.2f}"
