"""What a plan is asked, which runs it counts, and what its page says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.method_checks import never_acts
from selfdistill_cli.errors import UserError
from selfdistill_cli.planning import command
from selfdistill_cli.planning.cells import cells_of
from selfdistill_cli.planning.command import Request, taken_out
from selfdistill_cli.planning.costs import Sizes, data_of, kind_of_cost
from selfdistill_cli.planning.estimates import Plan, estimate
from selfdistill_cli.planning.page import print_plan
from selfdistill_cli.planning.seeds import Seen, in_words, seeds_for
from selfdistill_cli.planning.short_runs import ENOUGH_SECONDS, STEPS, shortened, steps_that_tell
from selfdistill_cli.reports.statistics import Spread, paired_difference, resampled, seeds_needed
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.self_training import rounds
from selfdistill_cli.system.files import write_json
from selfdistill_cli.tasks.added import write_added
from tests.helpers.every_method import METHODS
from tests.helpers.made_runs import make_run
from tests.helpers.plans import COST, cells
from tests.helpers.runs import composed
from tests.helpers.screens import TERMINALS, shown

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


def finished(cfg: DictConfig) -> Path:
    """The folder of a run, with results of the whole form."""
    place = RunDirectory(cfg).path
    place.mkdir(parents=True)
    shutil.copy(Path(__file__).parent.parent / "runs" / "data" / "finished" / "results.json", place)
    return place


def drawn(cfg: DictConfig, run: Path, number: int, monkeypatch: pytest.MonkeyPatch, added: int = 1) -> DictConfig:
    """The round that learns from what `run` wrote, where the rounds themselves put it."""

    def write(cfg: DictConfig, run: Path, runtime: object, number: int, folder: Path) -> dict[str, int]:
        write_added(folder / rounds.ADDED, [f"1 + {number} ="] * added, ["2"] * added)
        write_json(folder / rounds.ABOUT, {"added": added})
        return {"added": added}

    monkeypatch.setattr(rounds, "_drawn", write)
    folder, _ = rounds._additions(cfg, run, number)
    stage = cfg.copy()
    stage.task.added, stage.self_training.round = str(folder / rounds.ADDED), number
    return stage


def test_rounds_that_are_there_are_not_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "model=tiny_llama",
        "task=synth_arithmetic",
        "method=vanilla",
        "self_training=star",
        "self_training.rounds=4",
    )
    cfg = composed(f"paths.outputs={tmp_path}", *words)
    first = finished(rounds.gold_alone(cfg))
    second = drawn(cfg, first, 1, monkeypatch)
    third = drawn(cfg, finished(second), 2, monkeypatch)
    found = cells(tmp_path, words)
    assert [(cell.known, cell.state) for cell in found] == [
        (True, "finished"), (True, "finished"), (True, "to do"), (False, "to do"), (False, "to do")
    ]  # fmt: skip
    assert found[2].directory.path == RunDirectory(third).path
    assert [cell.state for cell in cells(tmp_path, (*words, "rerun=true"))] == ["to do"] * 5


def test_rounds_that_ended_since_nothing_joined_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "model=tiny_llama",
        "task=synth_arithmetic",
        "method=vanilla",
        "self_training=star",
        "self_training.rounds=3",
    )
    cfg = composed(f"paths.outputs={tmp_path}", *words)
    drawn(cfg, finished(rounds.gold_alone(cfg)), 1, monkeypatch, added=0)
    assert [cell.state for cell in cells(tmp_path, words)] == ["finished"]


def test_a_round_takes_as_long_a_step_as_the_run_without_it(tmp_path: Path) -> None:
    write_added(tmp_path / "added.parquet", ["1 + 1 ="], ["2"])
    words = ("model=tiny_llama", "task=synth_arithmetic", "method=vanilla")
    plain, more = composed(*words), composed(*words, f"task.added={tmp_path}/added.parquet")
    assert kind_of_cost(plain) == kind_of_cost(more)
    assert data_of(plain) != data_of(more)


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


def test_a_short_run_holds_nothing_out_and_tells_no_class_from_another() -> None:
    asked = composed("task=rte", "task.selection=held_out", "task.metrics=[auroc]", "schedule.batch_size=1")
    short = shortened(asked, Sizes(100, 10, 10), steps=4)
    assert (short.task.selection, list(short.task.metrics), short.task.metric) == ("validation", ["accuracy"], None)
    assert asked.task.selection == "held_out"


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


def planned(folder: Path, *jobs: tuple[str, ...], seconds: Sequence[float], at_once: int) -> str:
    """The page of these jobs, whose runs take so long."""
    found = cells(folder, *jobs)
    one = estimate(found[0], COST, Sizes(800, 500, 500), "")
    estimates = [replace(one, seconds=took) for took in seconds]
    plan = Plan(found, estimates, ready_seconds=0, at_once=at_once)
    return " ".join(shown(lambda console: print_plan(console, plan, folder), None).split())


def test_no_more_jobs_run_at_once_than_there_are_and_none_is_cut_in_two(tmp_path: Path) -> None:
    three = [("method=vanilla", f"seed={seed}") for seed in range(3)]
    assert "about 20 min with 3 jobs at once" in planned(tmp_path, *three, seconds=[1200] * 3, at_once=64)
    assert "about 40 min with 2 jobs at once" in planned(tmp_path, *three, seconds=[2400, 60, 60], at_once=2)
    assert "at once" not in planned(tmp_path, three[0], seconds=[1200], at_once=64)


def test_a_job_at_once_waits_for_its_teacher(tmp_path: Path) -> None:
    jobs = [("method=kd", "method.tau=1"), ("method=kd", "method.tau=2")]
    assert "about 30 min with 2 jobs at once" in planned(tmp_path, *jobs, seconds=[1200, 600, 600], at_once=64)


def test_evaluations_that_take_most_of_it_are_named_with_what_shortens_them(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, ("method=vanilla", "schedule.epochs=2"))

    def page(watched: int) -> str:
        found = estimate(cell, COST, Sizes(160, watched, watched), "")
        plan = Plan([cell], [found], ready_seconds=0, at_once=1)
        return " ".join(shown(lambda console: print_plan(console, plan, tmp_path), None).split())

    assert "Evaluations are about" not in page(50)
    assert "Evaluations are about 60 s of it: task.validation_examples=<n> scores fewer" in page(10_000)


# --- seeds ----------------------------------------------------------------------------------------


def of_seeds(folder: Path, seeds: int, *words: str) -> dict[str, dict[int, Path]]:
    """Runs of two methods, with results of the whole form."""
    whole = json.loads((Path(__file__).parent.parent / "runs" / "data" / "finished" / "results.json").read_text())
    made: dict[str, dict[int, Path]] = {}
    for method, accuracy in (("vanilla", 0.7), ("dynsdpb", 0.75)):
        for seed in range(seeds):
            asked = (f"method={method}", f"seed={seed}", *words)
            run = make_run(folder, *asked, accuracy=accuracy, examples=400, draw=len(method))
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


def test_the_spread_is_that_of_runs_on_one_and_the_same_data(tmp_path: Path) -> None:
    made = of_seeds(tmp_path, 3)
    asked = cells(tmp_path, ("method=vanilla", "seed=5"), ("method=dynsdpb", "seed=6"))
    before = seeds_for(asked, 8.0)
    place = make_run(tmp_path, "method=vanilla", "seed=3", accuracy=0.7, examples=400) / "results.json"
    other = json.loads((made["vanilla"][0] / "results.json").read_text()) | json.loads(place.read_text())
    place.write_text(json.dumps(other | {"fingerprints": {"data": "of another file"}}))
    (line,) = seeds_for(asked, 8.0)
    assert line.partition(" The spread")[0] == before[0].partition(" The spread")[0]


def test_the_study_of_a_plan_is_found_however_its_file_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("text,label\na,x\n")
    own = ("task=custom", "task.text=text", "task.label=label")
    of_seeds(tmp_path / "out", 2, *own, "task.path=data.csv")
    of_the_plan = cells(tmp_path / "out", (*own, f"task.path={tmp_path}/data.csv"))
    assert "1 pair of methods" in seeds_for(of_the_plan, 8.0)[0]
    Path("copy.csv").write_text("text,label\na,x\n")
    of_seeds(tmp_path / "out", 2, *own, "task.path=copy.csv", "schedule.lr=9e-5")
    for file in (tmp_path / "out").glob("*/*/*/*/results.json"):  # so that one path stands for both
        file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprints": {"data": "the same"}}))
    for name in ("data.csv", "copy.csv"):
        asked = cells(tmp_path / "out", (*own, f"task.path={tmp_path}/{name}"))
        assert "pairs of methods" in seeds_for(asked, 8.0)[0]


def test_without_two_seeds_of_two_methods_nothing_is_claimed(tmp_path: Path) -> None:
    of_seeds(tmp_path, 1)
    (line,) = seeds_for(cells(tmp_path, ("method=vanilla",)), 1.0)
    assert line.startswith("How many seeds show 1 point is not known yet")
    assert "seed=0,1" in line


def test_the_seed_of_the_trials_is_none_that_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_seeds(tmp_path, 3)
    asked = cells(
        tmp_path, *((f"method={method}", f"seed={seed}") for method in ("vanilla", "dynsdpb") for seed in range(4))
    )
    (line,) = seeds_for(asked, 8.0, trial_seed=0)
    assert "the 3 of this command show" in line
    told: list[object] = []
    monkeypatch.setattr(command, "_show", lambda *words: told.append(words[-1]))
    hydra = {"sweep": {"dir": str(tmp_path / "sweep")}, "launcher": {}, "sweeper": {"trial_seed": 0}}
    command.PlanOfSweep(str(tmp_path), 1.0).on_multirun_end(OmegaConf.create({"hydra": hydra}))
    assert told == [0]


def test_of_a_metric_that_is_not_resampled_nothing_is_said_of_examples() -> None:
    of_seeds_alone = Seen("rte", "rougeL", Spread(0.0, 0.2**2, 2), 1)
    said = in_words(of_seeds_alone, 0.01, seeds=3)
    assert said.startswith("Not even 1,000 seeds show a difference of 0.01")
    assert "examples" not in said
    assert "400 validation examples are too few" in in_words(
        Seen("rte", "accuracy", Spread(1e-3, 0.0, 400), 1), 0.01, 3
    )


def test_files_of_the_outputs_are_not_touched(tmp_path: Path) -> None:
    of_seeds(tmp_path, 2)
    before = {path: (os.stat(path).st_mtime_ns, path.is_dir()) for path in tmp_path.rglob("*")}
    cfg = composed(f"paths.outputs={tmp_path}", "method=vanilla", "seed=0")
    seeds_for(cells_of([(cfg, ("seed=0",))]), 1.0)
    assert {path: (os.stat(path).st_mtime_ns, path.is_dir()) for path in tmp_path.rglob("*")} == before
