"""Does the distillation loss act? Its gradient beside that of the labels, over training."""

from __future__ import annotations

import numpy as np

from selfdistill_cli.reports.content import Figure, Section
from selfdistill_cli.reports.curves import over_seeds, series
from selfdistill_cli.reports.lines import lines, over, pages, part, shown
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.variants import Group, Study

PREFIX = "grad_share/"
WORDS = """The norm of the gradient of each further part of the loss at the output layer, as a share of that of the labels' \
part: where it is near 0 %, that loss changes next to nothing, whatever its value is."""


def section(study: Study) -> Section | None:
    """A sentence and a figure for each part of a loss beside the labels'."""
    names = sorted({
        column for run in study.runs for row in run.rows.get("train", [])
        for column in row if column.startswith(PREFIX)
    })  # fmt: skip
    parts: list[Figure] = []
    findings = []
    for name in names:
        groups = [group for group in shown(study.groups) if len(_shares(group, name))]
        told = (f"{group.variant} {100 * _shares(group, name).mean():.3g} %" for group in groups)
        loss = name.removeprefix(PREFIX)
        findings.append(
            f"On average over training the {loss} loss moved the output layer by this share of what the labels did: {', '.join(told)}."
        )
        split = pages(groups)
        for number, members in enumerate(split):
            curves = Curves(f"{loss} against labels, %", "epoch", "", lines(study, members, "train", name, scale=100))
            caption = f"Share of the {loss} loss over training{part(number, len(split))}: {over(members)}."
            parts.append(Figure(f"share-of-{loss}" + (f"-{number + 1}" if number else ""), caption, [curves]))
    return Section("Does the distillation loss act?", WORDS, parts, " ".join(findings)) if parts else None


def _shares(group: Group, name: str) -> np.ndarray:
    """Over training, mean over seeds."""
    return over_seeds([series(run.rows.get("train", []), name) for run in group.runs.values()])[1]
