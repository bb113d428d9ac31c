"""What launchers say of jobs that run elsewhere."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("submitit")

from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.sweeps.choices import for_the_jobs_alone
from selfdistill_cli.sweeps.launchers import runs_of_jobs, slurm
from selfdistill_cli.sweeps.launchers.runs_of_jobs import RunsOfJob
from selfdistill_cli.sweeps.launchers.telling import job_return, summary, time_left
from selfdistill_cli.sweeps.launchers.workers import Worker
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system.files import write_json
from tests.helpers.runs import composed


def test_after_ctrl_c_the_jobs_go_on_and_the_same_command_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queued = slurm.Queued(0, ["seed=0"], "17_0", tmp_path / "log", tmp_path, 0)

    def interrupted(waiting: list[slurm.Queued]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(slurm.SlurmJobs, "_in_the_queue_already", lambda self, jobs: [queued])
    monkeypatch.setattr(slurm.SlurmJobs, "_submit", lambda self, jobs: [])
    monkeypatch.setattr(slurm, "_look", interrupted)
    launcher = object.__new__(slurm.SlurmJobs)
    with pytest.raises(Interrupted) as stop:
        launcher.do([(0, ["seed=0"])], JobRecords(tmp_path))
    assert stop.value.signal == signal.SIGINT
    assert "SLURM goes on with the jobs. The same command waits for them again; `scancel 17` ends them" in str(
        stop.value
    )
    assert "checkpoint" not in str(stop.value)
    assert "1 job is in SLURM's queue already: 17" in capsys.readouterr().out


def test_jobs_of_which_squeue_says_nothing_are_not_given_to_slurm_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "note.json"
    write_json(note, {"job_id": "17_0", "log": "log", "sweep_dir": "sweep", "number": 0})
    answers: list[dict[str, str] | None] = [None, {"17_0": "PENDING"}, None, None, None]
    monkeypatch.setattr(slurm.SlurmJobs, "_note", lambda self, overrides: note)
    monkeypatch.setattr(slurm, "_squeue", lambda array: answers.pop(0))
    monkeypatch.setattr(slurm, "WAITS_FOR_SQUEUE", (0.0, 0.0, 0.0))
    launcher = object.__new__(slurm.SlurmJobs)
    (queued,) = launcher._in_the_queue_already([(0, ["seed=0"])])
    assert queued.job_id == "17_0"
    with pytest.raises(UserError, match=r"squeue does not say .* Give the same command again in a while"):
        launcher._in_the_queue_already([(0, ["seed=0"])])


def test_a_process_that_lives_on_without_a_record_is_not_waited_for() -> None:
    worker = object.__new__(Worker)
    worker._gone, worker._process = False, Mock(is_alive=lambda: True, join=Mock(side_effect=AssertionError))
    assert worker.how_it_ended() == "it left no result"


def test_a_setting_that_none_of_the_named_options_has_is_refused() -> None:
    words = ["method=vanilla,static_sd", "method.epsilon=0.1,0.2"]
    with pytest.raises(UserError, match="method=vanilla,static_sd has no epsilon: label_smoothing has it"):
        for_the_jobs_alone(words)
    kept = for_the_jobs_alone(["method=vanilla,label_smoothing", words[1]])
    assert kept == ["method=vanilla,label_smoothing", '++hydra.sweeper.params={method.epsilon: "0.1,0.2"}']


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        (["seed=0,1", "method.lambda_=3"], "method=dynsdpb has no lambda_: dcs, gkd and reweight have it"),
        (["method.lambda_=1,2,3"], "method=dynsdpb has no lambda_"),
        (["seed=0,1", "self_training.samples=8"], "self_training=none has no samples"),
        (["seed=0,1", "model.config.hidden_size=32"], r"a new one wants a plus: \+model\.config\.hidden_size=<value>"),
        (["method=choice(vanilla,kd)", "method.lambda_=3"], r"method=choice\(vanilla,kd\) has no lambda_"),
    ],
)
def test_a_setting_of_an_option_that_was_forgotten_is_refused(words: list[str], lacks: str) -> None:
    with pytest.raises(UserError, match=lacks):
        for_the_jobs_alone(words)


@pytest.mark.parametrize(
    "several", ["method=glob(*)", "method=glob([d*,k*])", "method=choice(dcs,kd)", "+experiment=compare", "+mine=dcs"]
)
def test_a_setting_of_one_of_several_options_is_kept_for_the_jobs(several: str) -> None:
    assert for_the_jobs_alone([several, "method.lambda_=3"]) == [
        several,
        '++hydra.sweeper.params={method.lambda_: "3"}',
    ]


def test_one_damaged_result_is_for_its_job_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_of_jobs, "_composed", lambda launcher, overrides: composed())
    monkeypatch.setattr(RunDirectory, "results", Mock(side_effect=UserError("damaged")))
    assert not runs_of_jobs.has_results(None, [])


def test_what_slurm_was_given_is_noted_where_nobody_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "work_of", lambda launcher, overrides: "0123456789abcdef")
    launcher = object.__new__(slurm.SlurmJobs)
    launcher.config = composed(f"paths.outputs={tmp_path}")
    note = launcher._note([])
    assert note is not None
    assert note.is_relative_to(tmp_path)
    assert not note.is_relative_to(launcher.config.paths.cache)


def test_jobs_of_several_runs_are_known_apart_and_never_finished_by_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of self-training and stages have the settings of their first run, whose results say nothing of the others."""
    plain = ("task=synth_arithmetic", "model=tiny_llama", f"paths.outputs={tmp_path}")
    several = [
        *(("self_training=star",), ("self_training=star", "self_training.rounds=2"), ("self_training=correction",)),
        *(("sequence=[synth_arithmetic,synth_facts]",), ("sequence=[synth_arithmetic]",)),
    ]
    monkeypatch.setattr(runs_of_jobs, "_composed", lambda launcher, overrides: composed(*overrides))
    monkeypatch.setattr(RunDirectory, "results", lambda self: {})
    jobs = [(*plain, *further) for further in (*several, ("eval_tasks=svamp",), (), ("paths.outputs=elsewhere",))]
    # One that is scored on another task has its score yet to come.
    assert [runs_of_jobs.has_results(None, job) for job in jobs] == [False] * 6 + [True] * 2
    assert len({runs_of_jobs.work_of(None, job) for job in jobs}) == len(jobs)
    again = (*reversed(plain), "tracking=none")
    assert runs_of_jobs.work_of(None, again) == runs_of_jobs.work_of(None, plain)
    afresh = (*plain, "rerun=true")  # known in the queue, and never finished before it has run
    assert runs_of_jobs.work_of(None, afresh) not in {None, runs_of_jobs.work_of(None, plain)}
    assert not runs_of_jobs.has_results(None, afresh)
    assert runs_of_jobs.directory_of(None, afresh) is None


def test_a_job_that_failed_is_none_to_a_sweeper_to_which_nan_would_be_a_score() -> None:
    assert job_return(["seed=0"], {"status": "failed", "reason": "…"}).return_value is None
    assert job_return(["seed=0"], None).return_value is None
    finished = {"status": "finished", "score": 0.7}
    assert job_return(["seed=0"], finished).return_value == 0.7
    assert job_return(["seed=0"], finished | {"selection_score": 0.6}).return_value == 0.6


def test_states_are_counted_and_the_rest_is_estimated_by_the_jobs_that_trained() -> None:
    assert summary(2, ["RUNNING", "PENDING", "PENDING"]) == "2 finished, 2 pending, 1 running"
    took = [{"status": "finished", "took": 60.0}]
    assert time_left(["RUNNING", "running", "waiting", "waiting"], took) == " (about 2 min left)"
    assert time_left(["running"], []) == ""


def test_a_job_waits_for_what_another_is_at_until_that_has_finished(tmp_path: Path) -> None:
    finished: set[str] = set()

    def directory(name: str) -> Any:
        (tmp_path / name).mkdir()
        return SimpleNamespace(path=tmp_path / name, results=lambda: {} if name in finished else None)

    own, teacher = directory("own"), directory("teacher")
    job = RunsOfJob(own, [teacher])
    assert not job.would_wait(set())
    for of in (own, teacher):  # the same run under other words, or as another one's teacher
        assert job.would_wait({of.path})
        finished.add(of.path.name)
        assert not job.would_wait({of.path})
