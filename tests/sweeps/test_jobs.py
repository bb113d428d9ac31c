"""What a job of a sweep says before it begins, and what is recorded of one that failed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.sweeps import grid, job
from selfdistill_cli.sweeps.callback import ending_the_command
from selfdistill_cli.sweeps.job import headline
from selfdistill_cli.sweeps.launchers import runs_of_jobs
from selfdistill_cli.sweeps.plan import Plan, note_plan, read_plan
from selfdistill_cli.sweeps.records import JobRecords, Record, seconds_left
from selfdistill_cli.tracking.terminal import about
from tests.helpers.runs import composed


def planned(folder: Path, jobs: list[list[str]], **sweeper: object) -> Plan | None:
    """The plan of a sweep whose launcher was given these jobs."""
    hydra = {"sweep": {"dir": str(folder)}, "sweeper": {"params": None, **sweeper}, "overrides": {"task": []}}
    note_plan(OmegaConf.create({"hydra": hydra}), jobs, first=0)
    return read_plan(folder)


def test_a_job_says_which_of_how_many_it_is_and_what_differs(tmp_path: Path) -> None:
    jobs = [["task=rte", f"method={method}", f"seed={seed}"] for method in ("kd", "dcs") for seed in (0, 1)]
    plan = planned(tmp_path, jobs)
    assert headline(0, jobs[0], plan, []) == "job 1 of 4: method=kd seed=0"
    took = [{"status": "finished", "took": 100.0}, {"status": "finished earlier", "took": 0.1}]
    assert headline(2, jobs[2], plan, took) == "job 3 of 4: method=dcs seed=0 (about 3 min left)"


def test_a_sweep_of_one_shows_all(tmp_path: Path) -> None:
    assert headline(0, ["seed=1", "task=rte"], planned(tmp_path, [["seed=1", "task=rte"]]), []) == (
        "job 1 of 1: seed=1 task=rte"
    )


def test_a_search_has_as_many_jobs_as_trials_and_varies_what_it_searches(tmp_path: Path) -> None:
    first = ["method.tau=2.5", "method.alpha=0.1", "task=rte"]
    params = {"method.tau": "interval(0.5, 8)", "method.alpha": "choice(0.1, 0.2)", "task": "rte"}
    plan = planned(tmp_path, [first], n_trials=20, params=params)
    assert headline(0, first, plan, []) == "job 1 of 20: method.tau=2.5 method.alpha=0.1"


def test_where_only_the_sweeper_knows_how_many_jobs_there_are_none_is_claimed(tmp_path: Path) -> None:
    plan = planned(tmp_path, [["seed=0"], ["seed=1"]], max_batch_size=2)
    assert headline(1, ["seed=1"], plan, []) == "job 2: seed=1"


def test_the_rest_takes_what_jobs_that_trained_took_on_average() -> None:
    took: list[Record] = [{"status": "finished", "took": seconds} for seconds in (10.0, 20.0)]
    took.append({"status": "failed"})
    assert seconds_left(took, 4) == 60.0
    assert seconds_left(took, 4, at_once=2) == 30.0
    assert seconds_left([], 4) is None
    assert seconds_left(took, 0) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "5 s"), (62, "60 s"), (95, "2 min"), (3600, "60 min"), (9000, "2.5 h")]
)
def test_expected_times_are_round(seconds: float, words: str) -> None:
    assert about(seconds) == f"about {words}"


def test_an_error_without_words_says_where_it_came_from(tmp_path: Path) -> None:
    def stumble() -> None:
        raise ValueError

    reasons = []
    for number, action in enumerate((stumble, lambda: int("x"), lambda: (_ for _ in ()).throw(UserError("no file")))):
        try:
            action()
        except Exception as error:
            reasons.append(JobRecords(tmp_path).failed(number, ["seed=0"], error, 1.0)["reason"])
    assert reasons[0].startswith("ValueError without a message, in stumble (test_jobs.py:")
    assert reasons[1].startswith("ValueError: invalid literal")
    assert reasons[2] == "no file"
    assert [record["job"] for record in JobRecords(tmp_path).all()] == [1, 2, 3]
    assert "stumble" in (tmp_path / "jobs" / "1.log").read_text()


def test_what_ends_one_task_of_a_job_alone_is_said_and_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "SECONDS_TO_RECORD", 0)

    def fails(error: BaseException) -> Callable[..., dict[str, Any]]:
        def run(cfg: DictConfig) -> dict[str, Any]:
            raise error

        return run

    with pytest.raises(SystemExit) as ended:
        job._take_part(OmegaConf.create(), fails(RuntimeError("out of memory")))
    assert ended.value.code == 1
    assert "RuntimeError: out of memory" in capsys.readouterr().err
    # What every process was told, the main one says and records.
    assert job._take_part(OmegaConf.create(), fails(UserError("the disk is full"))) is None
    with pytest.raises(SystemExit) as stopped:
        job._take_part(OmegaConf.create(), fails(Interrupted("stopped", signal.SIGTERM)))
    assert stopped.value.code == 0


def test_an_option_that_no_job_names_is_that_of_the_whole_sweep() -> None:
    asked = [["method.lambda_=1"], ["method.lambda_=2"]]
    said = grid._what_was_left_out(asked, [[], []], 1, {"method": "vanilla"})
    assert said[0] == "vanilla has no method.lambda_: run without it."


@pytest.mark.parametrize(("error", "said"), [(UserError("damaged"), "sdrun: damaged"), (ValueError("x"), "1")])
def test_what_fails_at_the_end_of_a_sweep_ends_the_command(error: Exception, said: str) -> None:
    with pytest.raises(SystemExit, match=said), ending_the_command():
        raise error


def test_a_folder_that_is_used_again_keeps_no_record_and_nothing_of_the_users_is_touched(tmp_path: Path) -> None:
    records = JobRecords(tmp_path)
    records.failed(3, ["seed=0"], ValueError("x"), 1.0)
    records.note(["…"])
    records.output(3).write_text("printed")
    (records.folder / "mine.json").write_text("{}")
    records.clear()
    assert [path.name for path in records.folder.iterdir()] == ["mine.json"]
    assert records.all() == []


@pytest.mark.parametrize(("asked", "finished"), [([], True), (["sst2"], True), (["sst2", "imdb"], False)])
def test_a_job_with_scores_still_to_come_is_not_done_where_it_was_submitted(
    asked: list[str], finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = composed(f"paths.outputs={tmp_path}", f"eval_tasks=[{','.join(asked)}]")
    directory = RunDirectory(cfg)
    (directory.path / "evaluations").mkdir(parents=True)
    (directory.path / "evaluations" / "sst2.json").write_text("{}")
    monkeypatch.setattr(RunDirectory, "results", lambda self: "results")
    monkeypatch.setattr(runs_of_jobs, "_composed", lambda launcher, overrides: cfg)
    assert runs_of_jobs.has_results(None, []) is finished
