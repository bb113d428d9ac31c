"""What runs take, from runs made by hand: arithmetic, what counts as the same kind, and which finished ones tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from selfdistill_cli.planning.costs import Sizes, kind_of_cost, known_run, known_runs
from selfdistill_cli.planning.estimates import estimate, forwarded
from selfdistill_cli.system.environment import environment
from tests.helpers.made_runs import make_run
from tests.helpers.plans import COST, cells
from tests.helpers.runs import composed


def test_runs_of_a_kind_differ_in_what_costs_nothing() -> None:
    plain = kind_of_cost(composed("method=dynsdpb"))
    for alike in ("seed=3", "method.tau=1", "method.alpha=0.5", "schedule.lr=1e-3", "schedule.epochs=9", "task.train_examples=100"):  # fmt: skip
        assert kind_of_cost(composed("method=dynsdpb", alike)) == plain, alike
    others = ("method.overlap=half", "schedule.batch_size=8", "model=tiny_bert", "task.max_length=64", "runtime.threads=1", "tracking=none")  # fmt: skip
    for other in others:
        assert kind_of_cost(composed("method=dynsdpb", other)) != plain, other
    assert kind_of_cost(composed("method=vanilla_matched")) == kind_of_cost(composed("method=vanilla"))


@pytest.mark.parametrize("train", [96, 100, 5])
@pytest.mark.parametrize("steps", [1, 7, 14, 20])
@pytest.mark.parametrize("repeats", [False, True])
def test_examples_forwarded_are_those_of_every_batch_and_of_the_one_before(
    train: int, steps: int, repeats: bool
) -> None:
    cost = replace(COST, passes=2 if repeats else 1)
    sizes = [len(part) for part in np.array_split(np.arange(train), range(16, train, 16))]
    batches = [sizes[step % len(sizes)] for step in range(steps)]
    assert forwarded(cost, train, steps) == sum(batches) + (sum(batches[:-1]) if repeats else 0)


def test_a_run_takes_its_steps_evaluations_and_the_rest(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, ("method=dynsdpb", "schedule.epochs=2", "method.passes=1.5"))
    found = estimate(cell, COST, Sizes(160, 50, 50), "")
    assert (found.steps, found.total_steps, found.examples) == (30, 30, 2 * 480 - 16)
    # Evaluations after epochs 1, 2 and 3, and the final predictions.
    assert found.seconds == pytest.approx(944 * 0.01 + 4 * 50 * 0.002 + 3)
    assert found.run_bytes == 90e6 + 30 * 1000 + 50 * 100
    cell.step = 15
    half = estimate(cell, COST, Sizes(160, 50, 50), "")
    assert (half.steps, half.examples) == (15, 472)
    assert half.seconds == pytest.approx(472 * 0.01 + 3 * 50 * 0.002 + 3)


def test_what_is_held_out_is_watched_and_what_is_reported_scored_once_at_the_end(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, ("method=vanilla", "schedule.epochs=2", "task.selection=held_out"))
    cost = replace(COST, passes=1)
    found = estimate(cell, cost, Sizes(train=160, watched=18, predicted=50), "")
    assert found.seconds == pytest.approx(320 * 0.01 + (2 * 18 + 50) * 0.002 + 3)


def test_predictions_of_the_training_set_are_counted(tmp_path: Path) -> None:
    (teacher, cell) = cells(tmp_path, ("method=dcs", "schedule.epochs=3"))
    assert teacher.jobs == []
    cost = replace(COST, passes=1, predicted_per_epoch=1.0)
    alone = estimate(cell, cost, Sizes(160, 50, 50), "").seconds
    assert alone == pytest.approx((480 + 480 / 3) * 0.01 + 4 * 50 * 0.002 + 3)
    with_teachers = estimate(cell, cost, Sizes(160, 50, 50), "", predictions_of_teachers=1).seconds
    assert with_teachers == pytest.approx(alone + 160 / 3 * 0.01)


def finished(folder: Path) -> Path:
    """A run of 14 steps on 100 examples, by hand: 0.02 s an example, evaluations of 5 s, 7 s beside it all."""
    run = make_run(folder, "method=dynsdpb", examples=200)
    finished_as(run)
    return run


def finished_as(run: Path) -> None:
    """Give this run the rows and results of such a one."""
    results = json.loads((Path(__file__).parent.parent / "runs" / "data" / "finished" / "results.json").read_text())
    rows: list[dict[str, Any]] = []
    for step in range(14):
        examples = (4 if step % 7 == 6 else 16) + (0 if step == 0 else 4 if step == 7 else 16)
        slow = 10 if step < 3 else 1  # the first ones do not count
        rows.append({"kind": "train", "examples": examples, "examples_per_s": 50 / slow})
    seconds = sum(row["examples"] / row["examples_per_s"] for row in rows)
    rows += [{"kind": "eval"}, {"kind": "eval"}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results |= {"steps": 14, "epochs": 2, "train_examples": 100, "step_seconds": seconds, "seconds": seconds + 10, "checkpoint_seconds": 0}  # fmt: skip
    results |= {"overhead_seconds": 12.0, "peak_memory_mb": 800.0, "trained_parameters": 1000}
    (run / "results.json").write_text(json.dumps(results))


def test_what_a_finished_run_took_is_read_off_it(tmp_path: Path) -> None:
    run = finished(tmp_path)
    known = known_run(run, str(tmp_path))
    cost = known.cost
    assert known.sizes == Sizes(100, 200, 200)
    assert cost.example_seconds == pytest.approx(1 / 50)
    assert (cost.fresh_per_step, cost.passes_at_first, cost.passes) == (16, 1, 2)
    assert cost.evaluation_seconds == pytest.approx(5 / 200)
    assert cost.overhead_seconds == pytest.approx(12 - 5)  # without the final predictions
    everything = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    assert cost.run_bytes + 14 * cost.step_bytes + 200 * cost.prediction_bytes == pytest.approx(everything)
    (cell,) = cells(tmp_path, ("method=dynsdpb", "schedule.epochs=2"))
    again = estimate(cell, cost, known.sizes, "")
    assert again.examples == 396
    assert again.seconds == pytest.approx(396 / 50 + 3 * 5 + 7)


def test_a_test_set_is_scored_and_not_watched(tmp_path: Path) -> None:
    run = finished(tmp_path)
    scored = parquet.read_table(run / "predictions.parquet")
    place = scored.column_names.index("split")
    tested = scored.slice(0, 60).set_column(place, "split", pa.array(["test"] * 60))
    parquet.write_table(pa.concat_tables([scored, tested]), run / "predictions.parquet")
    assert known_run(run, str(tmp_path)).sizes == Sizes(100, 200, 260)


@pytest.mark.parametrize(
    ("asked", "had", "known"),
    [("null", None, True), ("null", 1, False), ("1", 1, True), ("2", 1, False)],
    ids=["as the machine gives", "side by side with others", "as asked for", "asked for and not had"],
)
def test_finished_runs_tell_where_they_had_the_threads_that_a_run_would_have(
    asked: str, had: int | None, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    run = make_run(tmp_path, "method=dynsdpb", f"runtime.threads={asked}")
    finished_as(run)
    here = environment()
    (run / "environment.json").write_text(json.dumps(here | {"processor_threads": had or 4}))
    task = run.relative_to(tmp_path).parts[0]
    assert len(list(known_runs(tmp_path, {task}, str(tmp_path)))) == known
    (run / "environment.json").write_text(json.dumps(here | {"processor": "another"}))
    assert not list(known_runs(tmp_path, {task}, str(tmp_path)))
