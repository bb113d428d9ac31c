"""Dynamics: how u, d, τ_i and α_i move in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfdistill_cli.reports.content import Figure, Section, file_name
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.lines import seeds, shown
from selfdistill_cli.reports.panels import Curves, Line, Look
from selfdistill_cli.reports.variants import Group, Study, has

SIGNALS = {
    "tau": "τ_i: temperature",
    "alpha": "α_i: influence",
    "uncertainty": "u: uncertainty",
    "discrimination": "d: discrimination",
}
WORDS = """u says how uncertain the previous prediction of an example was (0: sure, 1: a guess), d how well it singled out the \
gold label (0: not at all, 1: wholly). From them follow the temperature τ_i, at which the prediction is distilled, and the \
influence α_i, with which it is."""
OF_NUMBERS = (
    """Of a number u says how far off the previous prediction was, as a share of the labels' range; d is 1 − u."""
)


def section(study: Study) -> Section | None:
    """Trajectories of each method that records signals; single examples where they were recorded."""
    moving = [group for group in shown(study.groups) if has(group, "train", "uncertainty/mean")]
    if not moving:
        return None
    parts = [_trajectories(study, group) for group in moving]
    single = [group for group in moving if group.first.rows.get("examples")]
    parts += [_single(study, group) for group in single[:1]]
    numbers = moving[0].first.results.get("kind") == "regression"
    words = f"{WORDS} {OF_NUMBERS}" if numbers else WORDS
    return Section("How do τ and α move?", words, parts, _sentence(moving))


def _sentence(groups: Sequence[Group]) -> str:
    """Means of the first and the last tenth of training."""
    told = []
    for group in groups:
        moves = []
        for signal in SIGNALS:
            _, mean, _ = _over_training(group, f"{signal}/mean")
            if len(mean):
                tenth = max(1, len(mean) // 10)
                first, last = mean[:tenth].mean(), mean[-tenth:].mean()
                moves.append(f"{_symbol(signal)} from {first:.3g} to {last:.3g}")
        told.append(f"{group.variant}: {', '.join(moves)}")
    return f"From the first to the last tenth of training, on average over examples: {'; '.join(told)}."


def _over_training(group: Group, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return over_seeds([series(run.rows.get("train", []), column) for run in group.runs.values()])


def _trajectories(study: Study, group: Group) -> Figure:
    """A panel a signal; of two whose curves have one shape (τ_i = τ · (1 + u), say) the first alone."""
    drawn: dict[str, np.ndarray] = {}
    panels, alike = [], []
    for signal, title in SIGNALS.items():
        x, mean, _ = _over_training(group, f"{signal}/mean")
        if not len(x):
            continue
        twin = next((other for other, curve in drawn.items() if _of_one_shape(curve, mean)), None)
        if twin is not None:
            alike.append(f"{_symbol(signal)} as {_symbol(twin)}")
            continue
        drawn[signal] = mean
        low, high = (_over_training(group, f"{signal}/{tenth}")[1] for tenth in ("p10", "p90"))
        bounds = (low, high) if len(low) == len(high) == len(x) else (None, None)
        line = Line("", Look(study.look(group).method), x, mean, *bounds)
        panels.append(Curves(title, "epoch", "", [line], share=signal in ("uncertainty", "discrimination")))
    caption = f"{group.variant}: mean over the examples of a step; the band holds the middle 80 % of them (mean over {seeds([group])})."
    if alike:
        caption += f" Not drawn, since the rules make the curves alike but for scale and sign: {', '.join(alike)}."
    return Figure(file_name("trajectories", group.variant), caption, panels)


def _symbol(signal: str) -> str:
    return SIGNALS[signal].split(":")[0]


def _of_one_shape(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether one curve is a multiple of the other but for a constant, of either sign."""
    if len(one) != len(other) or len(one) < 3 or not one.std() or not other.std():
        return False
    return bool(abs(np.corrcoef(one, other)[0, 1]) > 0.9999)


def _single(study: Study, group: Group) -> Figure:
    """α_i against τ_i of single examples, early and late."""
    rows = group.first.rows["examples"]
    look = Look(study.look(group).method)
    panels = []
    for members in np.array_split(np.arange(len(rows)), min(3, len(rows))):
        tau = np.concatenate([rows[i]["tau"] for i in members])
        alpha = np.concatenate([rows[i]["alpha"] for i in members])
        title = f"epoch {rows[members[0]]['epoch']:.1f} to {rows[members[-1]]['epoch']:.1f}"
        panels.append(Curves(title, "τ_i", "α_i", [Line("", look, tau, alpha)], dots=True))
    caption = f"{group.variant}: τ_i and α_i of single examples in parts of training (one seed; a dot is an example in a step)."
    return Figure(file_name("examples", group.variant), caption, panels)
