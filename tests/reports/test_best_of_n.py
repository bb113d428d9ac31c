"""The expected score of the best of n trials is that of every way to draw n of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from selfdistill_cli.reports.content import Figure, Table
from selfdistill_cli.reports.report import write_report
from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.sections import best_of_n
from selfdistill_cli.reports.sections.best_of_n import expected_best
from selfdistill_cli.reports.studies import gather
from tests.helpers.made_runs import make_run

SELECTED = [
    [0.5, 0.7, 0.6, 0.8],
    [0.5, 0.7, 0.7, 0.2],  # two that select alike: each of them as often
    [0.4, 0.4, 0.4, 0.4],
    [0.3],
]


def enumerated(selected: list[float], reported: list[float], n: int, larger: bool) -> tuple[float, float]:
    """Mean and standard deviation over all N^n draws, of equal best ones each as likely."""
    best, values, chances = max if larger else min, [], []
    for drawn in itertools.product(range(len(selected)), repeat=n):
        top = best(selected[i] for i in drawn)
        equal = [i for i in drawn if selected[i] == top]
        values += [reported[i] for i in equal]
        chances += [1 / len(equal) / len(selected) ** n] * len(equal)
    mean = float(np.dot(chances, values))
    return mean, float(np.sqrt(max(0.0, np.dot(chances, np.square(values)) - mean**2)))


@pytest.mark.parametrize("selected", SELECTED)
@pytest.mark.parametrize("larger", [True, False])
def test_it_is_what_all_draws_give(selected: list[float], larger: bool) -> None:
    reported = [0.9, 0.1, 0.4, 0.6][: len(selected)]
    mean, deviation = expected_best(selected, reported, larger)
    for n in range(1, len(selected) + 1):
        expected = enumerated(selected, reported, n, larger)
        assert (mean[n - 1], deviation[n - 1]) == pytest.approx(expected, abs=1e-9)


def test_where_a_score_selects_itself_more_trials_are_never_worse() -> None:
    scores = list(np.random.default_rng(0).normal(size=30))
    mean, _ = expected_best(scores, scores)
    assert mean[0] == pytest.approx(np.mean(scores))
    assert (np.diff(mean) > 0).all()
    assert mean[-1] < max(scores)
    smallest, _ = expected_best(scores, scores, larger=False)
    assert expected_best([-s for s in scores], [-s for s in scores])[0] == pytest.approx(-smallest)


def test_a_report_shows_it_of_random_searches_alone(tmp_path: Path) -> None:
    rates = [1.3e-5, 2.2e-5, 3.1e-5, 4.4e-5, 5.2e-5, 6.7e-5]
    for number, lr in enumerate(rates):
        reported, held_out = 0.6 + number / 50, 0.8 - number / 50  # what selects disagrees with what is reported
        words = ("method=vanilla", f"schedule.lr={lr}", "task.selection=held_out")
        make_run(tmp_path, *words, examples=10, draw=number, score=reported, selection_score=held_out)
    make_run(tmp_path, "method=vanilla", f"schedule.lr={rates[0]}", "task.selection=held_out", "seed=1", examples=10)
    (study,) = gather(find_runs([tmp_path])).studies
    found = best_of_n.section(study)
    assert found is not None
    figure = found.parts[0]
    assert isinstance(figure, Figure)
    records = list(figure.panels[0].records())
    scores = [0.6 + number / 50 for number in range(6)]
    assert [record["trials"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert list(records[0].values())[2] == pytest.approx(100 * np.mean(scores))
    assert list(records[-1].values())[2] < 100 * np.mean(scores)  # the larger the budget, the surer the misled choice
    assert "vanilla from 65.0 with one trial to 60." in found.finding
    assert "held-out part of training" in figure.caption
    write_report(find_runs([tmp_path]), "a search", tmp_path / "report")  # its parts have files of their own


def test_more_passes_are_a_search_of_their_own(tmp_path: Path) -> None:
    for number in range(6):
        lr = f"schedule.lr={1.3e-5 * (number + 1)}"
        make_run(tmp_path, "method=vanilla", lr, draw=number)
        make_run(tmp_path, "method=vanilla", lr, draw=number + 6, passes=2)
    (study,) = gather(find_runs([tmp_path])).studies
    found = best_of_n.section(study)
    assert found is not None
    (table,) = (part for part in found.parts if isinstance(part, Table))
    assert [(row[0].text, row[1].text) for row in table.cells] == [("vanilla", "6"), ("vanilla (passes=2)", "6")]


def test_a_grid_is_no_random_search(tmp_path: Path) -> None:
    for tau, alpha in itertools.product((1, 2, 4), (0.5, 1)):
        make_run(tmp_path, "method=dynsdpb", f"method.tau={tau}", f"method.alpha={alpha}", examples=10)
    (study,) = gather(find_runs([tmp_path])).studies
    assert best_of_n.section(study) is None
