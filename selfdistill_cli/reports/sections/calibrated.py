"""Calibration: ECE, negative log-likelihood, Brier score, reliability diagrams."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfdistill_cli.reports.calibration import BINS, Calibration, calibration
from selfdistill_cli.reports.content import Figure, Section, Table, file_name, spread
from selfdistill_cli.reports.drawing import legend_below, line_style, panels
from selfdistill_cli.reports.scoring import read_predictions
from selfdistill_cli.reports.variants import Group, Study

WORDS = f"""From the class probabilities of the validation predictions. ECE: the gap between confidence and accuracy over \
{BINS} bins of equal width, weighted by their examples. NLL in nats. Brier: squared distance to the gold label, summed over \
classes. Smaller is better for all three. In reliability diagrams the diagonal is perfect; above it a model is too modest, \
below it too sure; bins pool the seeds."""

MOST = 6


def section(study: Study) -> Section | None:
    """A table and a reliability diagram for each classification."""
    rows: list[list[str]] = []
    figures: list[str | Table | Figure] = []
    for task in study.tasks:
        found = [(group, of) for group in study.of_task(task) if (of := _of(group))]
        for group, of in found:
            values = [spread([getattr(one, name) for one in of]) for name in ("ece", "nll", "brier")]
            rows.append([group.variant, task, *values, str(len(of))])
        if found:
            figures.append(_reliability(task, found[:MOST], len(found)))
    if not rows:
        return None
    header = ["method", "task", "ECE", "NLL", "Brier", "seeds"]
    table = Table("calibration", "Mean ± standard deviation over seeds.", header, rows)
    return Section("Are probabilities honest?", WORDS, [table, *figures])


def _of(group: Group) -> list[Calibration]:
    if group.first.results.get("kind", group.settings.get("task.kind")) != "classification":
        return []
    tables = [read_predictions(run.path / "predictions.parquet") for run in group.runs.values()]
    return [calibration(table["logits"], table["label"]) for table in tables if "logits" in table]


def _reliability(task: str, found: list[tuple[Group, list[Calibration]]], of: int) -> Figure:
    def draw() -> Any:
        figure, (axes,) = panels(1)
        figure.set_size_inches(4.6, 4.4)
        axes.plot([0, 1], [0, 1], color="#8C8C8C", linewidth=0.8, linestyle=":")
        for number, (group, calibrations) in enumerate(found):
            counts = np.sum([one.counts for one in calibrations], axis=0)
            seen = counts > 0
            both = [
                np.nansum([getattr(one, name) * one.counts for one in calibrations], axis=0)[seen] / counts[seen]
                for name in ("confidence", "accuracy")
            ]
            axes.plot(*both, label=group.variant, **line_style(number))
        axes.set(xlabel="confidence", ylabel="accuracy", title=task)
        legend_below(figure, axes)
        return figure

    some = f" (the first {MOST} of {of} methods)" if of > MOST else ""
    return Figure(file_name("reliability", task), f"Reliability on {task}{some}.", draw)
