"""What launchers say of jobs that run elsewhere."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("submitit")

from selfdistill_cli.errors import Interrupted
from selfdistill_cli.sweeps.launchers import slurm
from selfdistill_cli.sweeps.launchers.runs_of_jobs import RunsOfJob
from selfdistill_cli.sweeps.launchers.telling import summary, time_left
from selfdistill_cli.sweeps.records import JobRecords


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
