"""What a plan says follows from what runs took: arithmetic on runs made by hand, and what counts as the same kind."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from selfdistill_cli.config.method_checks import never_acts
from selfdistill_cli.errors import UserError
from selfdistill_cli.planning.cells import Cell, cells_of
from selfdistill_cli.planning.command import Request, taken_out
from selfdistill_cli.planning.costs import Cost, Sizes, kind_of_cost, known_run
from selfdistill_cli.planning.estimates import Plan, estimate, forwarded
from selfdistill_cli.planning.page import print_plan
from selfdistill_cli.planning.seeds import seeds_for
from selfdistill_cli.planning.short_runs import ENOUGH_SECONDS, STEPS, shortened, steps_that_tell
from selfdistill_cli.reports.statistics import paired_difference, resampled, seeds_needed
from selfdistill_cli.runs.directory import RunDirectory
from tests.helpers.every_method import METHODS
from tests.helpers.made_runs import make_run
from tests.helpers.runs import composed
from tests.helpers.screens import TERMINALS, shown

COST = Cost(
    example_seconds=0.01,
    fresh_per_step=16,
    passes_at_first=1,
    passes=2,
    predicted_per_epoch=0,
    evaluation_seconds=0.002,
    overhead_seconds=3,
    memory_mb=1500,
    run_bytes=90e6,
    step_bytes=1000,
    prediction_bytes=100,
    checkpoint_bytes=700e6,
)


def cells(outputs: Path, *jobs: tuple[str, ...]) -> list[Cell]:
    """The runs of these jobs."""
    return cells_of([(composed(f"paths.outputs={outputs}", *job), job) for job in jobs])


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [["--detect", "1.5"], ["--detect=1.5"]])
def test_the_flags_are_taken_out_wherever_they_stand(flag: list[str]) -> None:
    words = ["sdrun", *flag, "-m", "--plan", "seed=0,1"]
    assert taken_out(words) == Request(1.5)
    assert words == ["sdrun", "-m", "seed=0,1"]
    assert taken_out(words) is None


@pytest.mark.parametrize("words", [["--plan", "--detect"], ["--plan", "--detect=much"], ["--plan", "--detect", "-1"]])
def test_a_difference_is_a_number_above_0(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"--plan --detect 1\.0"):
        taken_out(words)


def test_a_difference_alone_is_no_command() -> None:
    with pytest.raises(UserError, match="question to a plan"):
        taken_out(["--detect", "1"])


# --- which runs -----------------------------------------------------------------------------------


def test_equal_jobs_are_one_run_and_a_teacher_is_planned_once_and_first(tmp_path: Path) -> None:
    jobs = [("method=kd", "method.tau=1"), ("method=kd", "method.tau=2"), ("method=kd", "method.tau=1.0")]
    found = cells(tmp_path, *jobs)
    assert [cell.jobs for cell in found] == [[], [1, 3], [2]]
    assert [cell.cfg.method.name for cell in found] == ["vanilla", "kd", "kd"]
    assert all(cell.first == [found[0]] for cell in found[1:])
    assert {cell.state for cell in found} == {"to do"}


def test_a_teacher_that_is_asked_for_as_well_is_one_run(tmp_path: Path) -> None:
    found = cells(
        tmp_path, ("method=kd", "schedule.epochs=2"), ("method=vanilla", "schedule.epochs=2", "schedule.keep=last")
    )
    assert [cell.jobs for cell in found] == [[2], [1]]


def test_what_is_finished_and_what_was_interrupted_is_known(tmp_path: Path) -> None:
    make_run(tmp_path, "method=vanilla", best_epoch=1)
    begun = RunDirectory(composed(f"paths.outputs={tmp_path}", "method=dynsdpb"))
    for step in (10, 40):
        (begun.checkpoints / f"step-{step:08d}").mkdir(parents=True)
    (begun.path / "run.json").write_text("{}")
    whole = json.loads((Path(__file__).parent.parent / "runs" / "data" / "finished" / "results.json").read_text())
    vanilla = RunDirectory(composed(f"paths.outputs={tmp_path}", "method=vanilla"))
    (vanilla.path / "results.json").write_text(json.dumps(whole))
    found = cells(tmp_path, ("method=vanilla",), ("method=dynsdpb",), ("method=kd",), ("method=vanilla", "rerun=true"))
    by_state = [(cell.cfg.method.name, cell.state, cell.step) for cell in found]
    assert by_state == [
        ("vanilla", "finished", 0),
        ("dynsdpb", "interrupted", 40),
        ("vanilla", "to do", 0),
        ("kd", "to do", 0),
    ]
    assert cells(tmp_path, ("method=vanilla", "rerun=true"))[0].state == "to do"


def test_stages_of_a_sequence_are_runs_of_their_own(tmp_path: Path) -> None:
    two = "sequence=[synth_arithmetic,synth_facts]"
    found = cells(tmp_path, ("model=tiny_llama", "method=vanilla", two), ("model=tiny_llama", "method=dynsdpb", two))
    assert [(cell.cfg.task.name, cell.cfg.method.name, cell.known, cell.jobs) for cell in found] == [
        ("synth_arithmetic", "vanilla", True, [1, 2]),  # the starting model, scored
        ("synth_arithmetic", "vanilla", True, [1]),
        ("synth_facts", "vanilla", False, [1]),
        ("synth_arithmetic", "dynsdpb", True, [2]),
        ("synth_facts", "dynsdpb", False, [2]),
    ]
    assert estimate(found[0], COST, Sizes(160, 50, 50), "").examples == 0


def test_rounds_of_self_training_are_runs_of_their_own(tmp_path: Path) -> None:
    words = ("model=tiny_llama", "task=synth_arithmetic", "method=vanilla")
    found = cells(tmp_path, words, (*words, "self_training=star", "self_training.rounds=2"))
    assert [(cell.known, cell.jobs) for cell in found] == [(True, [1, 2]), (False, [2]), (False, [2])]


def test_generations_are_runs_of_their_own(tmp_path: Path) -> None:
    found = cells(tmp_path, ("method=born_again", "method.generations=2"), ("method=vanilla",))
    assert [cell.jobs for cell in found] == [[2], [], [1]]
    assert [cell.cfg.method.get("generations") for cell in found] == [None, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_a_short_run_of_any_method_is_one_that_can_be_run_and_acts_at_once(method: str) -> None:
    short = shortened(composed(f"method={method}"), Sizes(100, 10, 10), steps=4)
    assert short.task.train_examples == 64
    assert never_acts(short.method, 1.0) == ""
    assert short.method.get("teacher", {}).get("epochs", 0) == 0
    assert short.method.get("generations", 1) == 1


def test_where_a_step_takes_long_fewer_are_timed() -> None:
    of_16_seconds = replace(COST, example_seconds=0.5)  # 16 examples forwarded twice
    assert steps_that_tell(COST, batch_size=16) == STEPS
    assert steps_that_tell(of_16_seconds, batch_size=16) == ENOUGH_SECONDS // 16
    answers = composed("task=synth_arithmetic", "model=tiny_llama", "method=vanilla")
    assert shortened(answers, Sizes(100, 400, 400), steps=4).task.validation_examples == 16
    assert shortened(composed(), Sizes(100, 400, 400), steps=4).task.validation_examples == 256


def test_a_mistake_says_which_job_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.path(.|\n)*job 2 of 2: task=custom"):
        cells(tmp_path, ("task=synth_entailment",), ("task=custom",))


# --- what they take -------------------------------------------------------------------------------


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
    results = json.loads((Path(__file__).parent.parent / "runs" / "data" / "finished" / "results.json").read_text())
    run = make_run(folder, "method=dynsdpb", examples=200)
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
    return run


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


# --- the page -------------------------------------------------------------------------------------


def a_plan(folder: Path) -> Plan:
    """Six jobs and two teachers, one of them interrupted."""
    jobs = [(f"method={method}", f"seed={seed}") for method in ("vanilla", "dynsdpb", "dcs") for seed in (0, 1)]
    found = cells(folder, *jobs)
    found[1].step, found[1].state = 40, "interrupted"
    found[0].state = "finished"
    estimates = [
        estimate(cell, COST, Sizes(800, 500, 500), "16 steps timed now") if cell.left else None for cell in found
    ]
    return Plan(found, estimates, ready_seconds=10, at_once=2)


@pytest.mark.parametrize("width", [*TERMINALS, None])
def test_a_plan_reads_at_any_width(width: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = a_plan(tmp_path)
    page = shown(lambda console: print_plan(console, plan, tmp_path), width)
    assert "6 runs: 1 finished, 1 interrupted, 4 to do; 2 teachers: to do" in " ".join(page.split())
    assert "40 of 150" in page
    if width:
        assert max(map(len, page.splitlines())) <= width
    total = sum(one.seconds for one in plan.left) + 10
    assert f"about {round(total / 60)} min, about {round(total / 120)} min with 2 jobs at once" in " ".join(
        page.split()
    )
    assert "16 steps timed now (7 runs)" in " ".join(page.split())


def test_evaluations_that_take_most_of_it_are_named_with_what_shortens_them(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, ("method=vanilla", "schedule.epochs=2"))

    def page(watched: int) -> str:
        found = estimate(cell, COST, Sizes(160, watched, watched), "")
        plan = Plan([cell], [found], ready_seconds=0, at_once=1)
        return " ".join(shown(lambda console: print_plan(console, plan, tmp_path), None).split())

    assert "Evaluations are about" not in page(50)
    assert "Evaluations are about 60 s of it: task.validation_examples=<n> scores fewer" in page(10_000)


# --- seeds ----------------------------------------------------------------------------------------


def of_seeds(folder: Path, seeds: int) -> dict[str, dict[int, Path]]:
    """Runs of two methods, with results of the whole form."""
    whole = json.loads((Path(__file__).parent.parent / "runs" / "data" / "finished" / "results.json").read_text())
    made: dict[str, dict[int, Path]] = {}
    for method, accuracy in (("vanilla", 0.7), ("dynsdpb", 0.75)):
        for seed in range(seeds):
            run = make_run(
                folder, f"method={method}", f"seed={seed}", accuracy=accuracy, examples=400, draw=len(method)
            )
            results = whole | json.loads((run / "results.json").read_text())
            (run / "results.json").write_text(json.dumps(results))
            made.setdefault(method, {})[seed] = run
    return made


def test_the_seeds_that_a_difference_needs_follow_from_the_spread_that_was_seen(tmp_path: Path) -> None:
    from selfdistill_cli.reports.scoring import scored

    made = of_seeds(tmp_path, 3)
    (line,) = seeds_for(cells(tmp_path, ("method=vanilla", "seed=5"), ("method=dynsdpb", "seed=6")), 8.0)
    tables = {
        (m, s): scored(run / "predictions.parquet", "accuracy") for m, runs in made.items() for s, run in runs.items()
    }
    drawn = resampled({key: table for key, table in tables.items() if table is not None})
    a, b = ({s: drawn[method, s] for s in range(3)} for method in ("dynsdpb", "vanilla"))
    difference = paired_difference(a, b)
    assert difference is not None
    assert difference.spread is not None
    assert f"takes {seeds_needed(difference.spread, 0.08)} seeds a method; the 2 of this command show" in line
    assert "1 pair of methods" in line


def test_without_two_seeds_of_two_methods_nothing_is_claimed(tmp_path: Path) -> None:
    of_seeds(tmp_path, 1)
    (line,) = seeds_for(cells(tmp_path, ("method=vanilla",)), 1.0)
    assert "not known yet" in line
    assert "seed=0,1" in line


def test_files_of_the_outputs_are_not_touched(tmp_path: Path) -> None:
    of_seeds(tmp_path, 2)
    before = {path: (os.stat(path).st_mtime_ns, path.is_dir()) for path in tmp_path.rglob("*")}
    cfg = composed(f"paths.outputs={tmp_path}", "method=vanilla", "seed=0")
    seeds_for(cells_of([(cfg, ("seed=0",))]), 1.0)
    assert {path: (os.stat(path).st_mtime_ns, path.is_dir()) for path in tmp_path.rglob("*")} == before
