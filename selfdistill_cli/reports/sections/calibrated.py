"""Calibration: ECE, negative log-likelihood, Brier score, reliability diagrams."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from selfdistill_cli.reports.calibration import BINS, Calibration, calibration
from selfdistill_cli.reports.content import Figure, Section, Table, spread
from selfdistill_cli.reports.lines import extremes, pages, part, shown
from selfdistill_cli.reports.panels import Curves, Line
from selfdistill_cli.reports.scoring import read_predictions
from selfdistill_cli.reports.variants import Group, Study

WORDS = f"""ECE: the gap between confidence and accuracy over {BINS} bins of equal width, weighted by their examples. NLL: negative \
log-likelihood of the gold label, nats. Brier: squared distance to the gold label, summed over classes. Smaller is better for \
all three. In the figure the diagonal is perfect; above it a model is too modest, below it too sure; bins pool the seeds."""


def section(study: Study) -> Section | None:
    """A reliability diagram and a table, of classifications."""
    found = {group.variant: of for group in shown(study.groups) if (of := _of(group))}
    if not found:
        return None
    errors = {variant: fmean(one.ece for one in of) for variant, of in found.items()}
    split = pages([group for group in study.groups if group.variant in found])
    rows = [
        [variant, *(spread([getattr(one, name) for one in of]) for name in ("ece", "nll", "brier")), str(len(of))]
        for variant, of in found.items()
    ]
    parts: list[str | Table | Figure] = [
        *(
            figure
            for number, members in enumerate(split)
            if (figure := _reliability(study, members, found, number, len(split))).panels
        ),
        Table("calibration", "Mean ± standard deviation over seeds.", ["method", "ECE", "NLL", "Brier", "seeds"], rows),
    ]
    return Section(
        "Are probabilities honest?",
        WORDS,
        parts,
        f"Confidence is off accuracy by {extremes(errors, '.3f')} on average (ECE).",
    )


def _of(group: Group) -> list[Calibration]:
    if group.first.results.get("kind", group.settings.get("task.kind")) != "classification":
        return []
    tables = (read_predictions(run.path / "predictions.parquet") for run in group.runs.values())
    return [calibration(table["logits"], table["label"]) for table in tables if "logits" in table]


def _reliability(
    study: Study, groups: list[Group], found: dict[str, list[Calibration]], number: int, of: int
) -> Figure:
    lines = []
    for group in groups:
        calibrations = found[group.variant]
        counts = np.sum([one.counts for one in calibrations], axis=0)
        seen = counts > 0
        confidence, accuracy = (
            np.nansum([getattr(one, name) * one.counts for one in calibrations], axis=0)[seen] / counts[seen]
            for name in ("confidence", "accuracy")
        )
        lines.append(Line(group.variant, study.look(group), confidence, accuracy))
    panel = Curves("reliability", "confidence", "accuracy", lines, diagonal=True, share=True)
    return Figure(
        f"reliability-{number + 1}" if number else "reliability",
        f"Accuracy at each confidence{part(number, of)}.",
        [panel] if panel.moves else [],
    )
