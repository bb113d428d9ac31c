"""A model whose writing collapses is told from one whose writing does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfdistill_cli.reports.content import Figure
from selfdistill_cli.reports.panels import Curves
from selfdistill_cli.reports.sections import writing_quality
from tests.helpers.made_runs import make_run, study_of


def evaluations(*cut: float) -> list[dict[str, Any]]:
    """Rows in which more and more answers have no end, and all else stays."""
    same = {"distinct_1": 0.3, "distinct_2": 0.5, "length": 12.0, "empty": 0.0, "repeated": 0.25, "entropy": 1.5}
    return [
        {"kind": "eval", "epoch": 4.0 + n, "step": 40 + n}
        | {f"eval/writing/{name}": value for name, value in (same | {"cut": share}).items()}
        for n, share in enumerate(cut)
    ]


def test_the_last_evaluation_is_told_and_every_measure_is_drawn_over_training(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", "seed=0", rows=evaluations(0.1, 0.0))
    make_run(tmp_path, "method=static_sd", "seed=0", rows=evaluations(0.1, 0.8))
    make_run(tmp_path, "method=static_sd", "seed=1", rows=evaluations(0.1, 0.6))
    section = writing_quality.section(study_of(tmp_path))
    assert section is not None
    words, (figure,) = section.finding, section.parts
    assert isinstance(figure, Figure)
    assert (
        "vanilla ends with answers of 12 tokens, whose different pairs are 50% of all; 0% of the answers have no end"
        in words
    )
    assert "70% of the answers have no end, 0% are empty, 25% were written before." in words
    cut = next(panel for panel in figure.panels if panel.title == "answers without an end, share")
    assert isinstance(cut, Curves)
    drawn = {line.label: list(line.y) for line in cut.lines}
    assert drawn == {"vanilla": [0.1, 0.0], "static_sd": [0.1, 0.7]}


def test_a_study_without_written_answers_says_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla")
    assert writing_quality.section(study_of(tmp_path)) is None
