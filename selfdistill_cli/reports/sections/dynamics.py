"""Dynamics: how u, d, τ_i and α_i move in training, how methods learn, and when dynamic and static part ways."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from selfdistill_cli.reports.content import Figure, Section, Table, file_name
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.drawing import COLOURS, legend_below, line, panels
from selfdistill_cli.reports.statistics import mean_interval
from selfdistill_cli.reports.variants import Group, Study, has

WORDS = """The signals that DynSDPB reads off each previous prediction (u: uncertainty, d: discrimination) and the \
temperature τ_i and influence α_i that follow from them, over training; then learning curves of all methods. Bands in the \
first kind hold the middle 80 % of a step's examples (10th to 90th percentile), averaged over seeds; in learning curves \
they are ± one standard deviation over seeds."""

SIGNALS = {"uncertainty": "u", "discrimination": "d", "tau": "τ_i", "alpha": "α_i"}
MOST_VARIANTS = 7
"""In one figure of learning curves."""


def section(study: Study) -> Section | None:
    """Trajectories, learning curves, partings."""
    parts: list[str | Table | Figure] = []
    for task in study.tasks:
        groups = study.of_task(task)
        moving = [g for g in groups if has(g, "train", "uncertainty/mean")]
        parts += [_trajectories(group) for group in moving[:3]]
        if len(moving) > 3:
            parts.append(
                f"{task}: {len(moving) - 3} further variants have such trajectories; the first three are drawn."
            )
        parts += [_single(group) for group in moving[:1] if group.first.rows.get("examples")]
        parts += [_learning(task, groups[at : at + MOST_VARIANTS], at) for at in range(0, len(groups), MOST_VARIANTS)]
    partings = _partings(study)
    if partings:
        header = [
            "task",
            "dynamic",
            "static",
            "seeds",
            "training losses part at epoch",
            "scores part at epoch",
            "last difference",
        ]
        caption = (
            "When dynamic and static self-distillation part ways, seed by seed on the same batches. Training losses: the first "
            "of 100 stretches from which their mean difference stays beyond 1 % of the static loss. Scores: the first evaluation "
            "from which the 95 % interval of the mean difference over seeds stays off zero."
        )
        parts.append(Table("partings", caption, header, partings))
    return Section("How do τ and α move, and what do they change?", WORDS, parts) if parts else None


def _trajectories(group: Group) -> Figure:
    def draw() -> Any:
        figure, axes = panels(4)
        for number, (signal, title) in enumerate(SIGNALS.items()):
            for part, label in (("mean", "mean"), ("p50", "median")):
                x, mean, _ = over_seeds(
                    [series(run.rows.get("train", []), f"{signal}/{part}") for run in group.runs.values()]
                )
                axes[number].plot(
                    x, mean, color=COLOURS[number], linestyle="-" if part == "mean" else ":", label=label, linewidth=1.4
                )
            x, low, _ = over_seeds([series(run.rows.get("train", []), f"{signal}/p10") for run in group.runs.values()])
            _, high, _ = over_seeds([series(run.rows.get("train", []), f"{signal}/p90") for run in group.runs.values()])
            if len(low):
                axes[number].fill_between(x, low, high, color=COLOURS[number], alpha=0.18, linewidth=0)
            axes[number].set(title=title, xlabel="epoch")
        legend_below(figure, axes[0])
        return figure

    title = f"{group.variant} on {group.task}"
    caption = (
        f"{title}: u, d, τ_i and α_i over training ({len(group.runs)} seeds). Band: 10th to 90th percentile of a step."
    )
    return Figure(file_name("trajectories", title), caption, draw)


def _single(group: Group) -> Figure:
    """α_i against τ_i of single examples, early and late."""
    rows = group.first.rows["examples"]
    thirds = np.array_split(np.arange(len(rows)), min(3, len(rows)))

    def draw() -> Any:
        figure, axes = panels(len(thirds), across=3)
        for axis, members in zip(axes, thirds, strict=True):
            tau = np.concatenate([rows[i]["tau"] for i in members])
            alpha = np.concatenate([rows[i]["alpha"] for i in members])
            axis.scatter(tau, alpha, s=5, alpha=0.4, color=COLOURS[0], linewidths=0)
            axis.set(
                xlabel="τ_i",
                ylabel="α_i",
                title=f"epoch {rows[members[0]]['epoch']:.1f} to {rows[members[-1]]['epoch']:.1f}",
            )
        return figure

    title = f"{group.variant} on {group.task}"
    caption = (
        f"{title}: τ_i and α_i of single examples in three parts of training (one seed; a dot is an example in a step)."
    )
    return Figure(file_name("examples", title), caption, draw)


def _learning(task: str, groups: list[Group], first: int) -> Figure:
    metric = groups[0].first.results["metric"]

    def draw() -> Any:
        figure, (loss, score) = panels(2)
        for number, group in enumerate(groups, start=first):
            runs = group.runs.values()
            x, mean, _ = over_seeds([series(run.rows.get("train", []), "loss/ce") for run in runs])
            if len(x):
                line(loss, x, mean, np.zeros_like(mean), group.variant, number)
            x, mean, sd = over_seeds([series(run.rows.get("eval", []), f"eval/{metric}") for run in runs])
            line(score, x, mean, sd, group.variant, number)
        loss.set(xlabel="epoch", title="training: cross-entropy part of the loss")
        score.set(xlabel="epoch", title=f"validation: {metric}")
        legend_below(figure, score)
        return figure

    more = f", part {first // MOST_VARIANTS + 1}" if first else ""
    return Figure(file_name("learning", task + more), f"Learning curves on {task}{more}.", draw)


def _partings(study: Study) -> list[list[str]]:
    found = []
    for task in study.tasks:
        groups = study.of_task(task)
        moving = [g for g in groups if has(g, "train", "tau/mean")]
        for static, dynamic in itertools.product(groups, moving):
            common = sorted(set(dynamic.runs) & set(static.runs))
            if common and _adds_rules(dynamic, static):
                found.append(_parting(task, dynamic, static, common))
    return found


def _adds_rules(dynamic: Group, static: Group) -> bool:
    """Whether `dynamic` is `static` with further settings, its rules, beside the same temperature and all else."""
    ours, theirs = (
        {k: v for k, v in group.settings.items() if k not in ("method.name", "method._target_")}
        for group in (dynamic, static)
    )
    return "method.tau" in theirs and len(ours) > len(theirs) and theirs.items() <= ours.items()


def _parting(task: str, dynamic: Group, static: Group, seeds: list[int]) -> list[str]:
    metric = dynamic.first.results["metric"]
    losses, scores = [], []
    for seed in seeds:
        a, b = dynamic.runs[seed].rows, static.runs[seed].rows
        x, ours = series(a.get("train", []), "loss")
        places, theirs = series(b.get("train", []), "loss")
        losses.append(
            (x, np.abs(ours - np.interp(x, places, theirs)) / np.maximum(np.abs(np.interp(x, places, theirs)), 1e-9))
        )
        x, ours = series(a.get("eval", []), f"eval/{metric}")
        places, theirs = series(b.get("eval", []), f"eval/{metric}")
        scores.append((x, ours - np.interp(x, places, theirs)))
    x, gap, _ = over_seeds(losses)
    at, mean, _ = over_seeds(scores)
    halves = np.array([mean_interval([float(np.interp(place, *curve)) for curve in scores]) for place in at])
    return [
        task,
        dynamic.variant,
        static.variant,
        str(len(seeds)),
        _stays(x, gap > 0.01),
        _stays(at, np.abs(mean) > halves) if len(seeds) > 1 else "one seed",
        f"{mean[-1]:+.4f}" + ("" if np.isnan(halves[-1]) else f" ± {halves[-1]:.4f}"),
    ]


def _stays(places: np.ndarray, apart: np.ndarray) -> str:
    """Where `apart` becomes true for good."""
    if not len(apart) or not apart[-1]:
        return "never"
    together = np.flatnonzero(~apart)
    return f"{places[together[-1] + 1 if len(together) else 0]:.2f}"
