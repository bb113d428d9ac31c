"""The tables that end a sweep: right numbers, whole words, at every width."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from selfdistill_cli.sweeps.summary import best_trial, jobs, means_over_seeds, print_summary
from tests.helpers.screens import TERMINALS, shown

SCORES = [[0.8123, 0.8345, 0.7911], [0.8511, 0.8421, 0.8637]]


def record(job: int, score: float | None, *overrides: str, **others: Any) -> dict[str, Any]:
    """A job's record; without a score it failed."""
    known = {"job": job, "overrides": list(overrides), "seconds": 75.0}
    if score is None:
        return known | {"status": "failed", "reason": "ValueError without a message"}
    done = {"metric": "accuracy", "score": score, "best_epoch": 2.5, "examples_forwarded": 123456}
    return known | {"status": "finished", "key": f"key{job}"} | done | others


def sweep() -> list[dict[str, Any]]:
    """Two methods and three seeds."""
    settings = [(method, seed) for method in range(2) for seed in range(3)]
    return [
        record(job, SCORES[method][seed], "task=rte", f"method={['vanilla', 'dynsdpb'][method]}", f"seed={seed}")
        for job, (method, seed) in enumerate(settings, start=1)
    ]


def test_means_are_over_seeds_alone() -> None:
    method, score, seeds = means_over_seeds(sweep())
    assert (method.name, method.cells) == ("method", ["vanilla", "dynsdpb"])
    assert score.cells == [f"{statistics.fmean(each):.4f} ± {statistics.stdev(each):.4f}" for each in SCORES]
    assert score.cells[0] == "0.8126 ± 0.0217"
    assert seeds.cells == ["3", "3"]


def test_folds_are_repeated_measurements_as_seeds_are() -> None:
    folds = [record(fold + 1, 0.5 + fold / 10, "method=kd", f"task.fold={fold}") for fold in range(3)]
    score, runs = means_over_seeds(folds)
    assert (score.cells, runs.name, runs.cells) == (["0.6000 ± 0.1000"], "runs", ["3"])
    assert "mean ± standard deviation over folds and seeds" in shown(lambda console: print_summary(console, folds), 100)


def test_a_failed_seed_is_counted_and_a_run_asked_for_twice_counts_once() -> None:
    three = [record(1, 0.5, "seed=0"), record(2, None, "seed=1"), record(3, 0.5, "seed=0", key="key1")]
    score, seeds = means_over_seeds(three)
    assert score.cells == ["0.5000"]
    assert seeds.cells == ["1 of 2"]


def test_where_no_jobs_differ_by_the_seed_alone_there_is_nothing_to_average() -> None:
    assert means_over_seeds([record(1, 0.5, "method=kd"), record(2, 0.6, "method=dcs")]) == []


def test_jobs_are_told_apart_by_what_differs() -> None:
    columns = {
        column.name: column.cells
        for column in jobs(
            [
                record(1, 0.5, "task=rte", "+method.tau=1", "task.seed=1"),
                record(2, None, "task=rte", "+method.tau=[red]", "seed=1"),
            ]
        )
    }
    assert columns["tau"] == ["1", "[red]"]
    assert columns["task.seed"] == ["1", "–"]
    assert columns["seed"] == ["–", "1"]
    assert columns["accuracy"] == ["0.5000", "failed"]
    assert "task" not in columns


@pytest.mark.parametrize("width", [*TERMINALS, None])
def test_every_job_has_its_line_with_its_whole_score_at_every_width(width: int | None) -> None:
    seven = [*sweep(), record(7, None, "task=rte", "method=[/]", "seed=[red]")]
    text = shown(lambda console: print_summary(console, seven), width)
    lines = text.splitlines()
    assert width is None or max(map(len, lines)) <= width
    of_jobs = lines[next(number for number, line in enumerate(lines) if line.startswith("7 jobs")) :]
    for each in seven[:6]:
        method, seed = (word.partition("=")[2] for word in each["overrides"][1:])
        (line,) = [line for line in of_jobs if line.split()[:1] == [str(each["job"])]]
        assert line.split()[1:4] == [f"{each['score']:.4f}", method, seed]
    assert any(line.split()[:4] == ["7", "failed", "[/]", "[red]"] for line in of_jobs)
    assert any(line.split()[:5] == ["dynsdpb", "0.8523", "±", "0.0108", "3"] for line in lines)
    assert text.index("±") < text.index("7 jobs")
    assert "ValueError without a message" in text
    if width is None:
        assert "123,456" in text
        assert "1 min 15 s" in text


@pytest.mark.parametrize(("width", "tau"), [(50, "2.29"), (120, "2.2898514604770375"), (None, "2.2898514604770375")])
def test_drawn_numbers_are_rounded_where_there_is_no_room_for_all_digits(width: int | None, tau: str) -> None:
    two = [
        record(1, 0.5, "method.tau=2.2898514604770375", "method.alpha=2.1455680991172583"),
        record(2, 0.5, "method.tau=3", "method.alpha=0.00001234567"),
    ]
    lines = shown(lambda console: print_summary(console, two), width).splitlines()
    assert any(line.split()[:3] == ["1", "0.5000", tau] for line in lines)
    assert width is None or max(map(len, lines)) <= width


@pytest.mark.parametrize("width", TERMINALS)
def test_paths_lose_the_folders_that_they_share_before_anything_is_broken(width: int) -> None:
    folder = "/home/somebody/with/a/long/name/and/many/folders"
    two = [record(n, 0.5, f"task.path={folder}/part/{name}.csv") for n, name in ((1, "reviews"), (2, "news"))]
    lines = shown(lambda console: print_summary(console, two), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.split()[:2] == ["1", "0.5000"] and "reviews.csv" in line.split()[2] for line in lines)


def test_where_no_table_fits_a_row_is_broken_between_its_cells() -> None:
    long = "/home/somebody/with/a/long/name/and/many/folders/reviews.csv"
    words = [f"task.path={long}", "method=dynsdpb", "method.alpha_rule=discrimination", "schedule.warmup_ratio=0.1"]
    others = ["task.path=/b.csv", "method=kd", "method.alpha_rule=constant", "schedule.warmup_ratio=0.2"]
    two = [record(1, 0.5123, *words), record(2, 0.6123, *others)]
    lines = shown(lambda console: print_summary(console, two), 50).splitlines()
    assert "job 1  accuracy 0.5123" in lines
    assert f"  path {long}" in lines
    assert "  method dynsdpb  alpha_rule discrimination" in lines
    assert all(len(line) <= 50 or long in line for line in lines)


def test_the_best_trial_is_named() -> None:
    trials = [record(1, 0.7, "method.tau=0.5"), record(2, None, "method.tau=9"), record(3, 0.6, "method.tau=3")]
    assert "Best trial: job 1, accuracy 0.7000 on the reported split: method.tau=0.5" in shown(
        lambda console: print_summary(console, trials, "maximize"), 120
    )
    held_out = [one | {"selection_score": score} for one, score in zip(trials, (0.5, 0.1, 0.55), strict=True)]
    assert "Best trial: job 3, accuracy 0.5500 held out (0.6000 on validation): method.tau=3" in shown(
        lambda console: print_summary(console, held_out, "maximize"), 120
    )
    smallest = best_trial(trials, "minimize")
    assert smallest is not None
    assert smallest["job"] == 3
    assert best_trial(trials[1:2], "maximize") is None


def test_tasks_of_several_metrics_name_them() -> None:
    two = [record(1, 0.5, "task=rte"), record(2, 0.25, "task=stsb", metric="pearson")]
    assert jobs(two)[1].cells == ["accuracy 0.5000", "pearson 0.2500"]
