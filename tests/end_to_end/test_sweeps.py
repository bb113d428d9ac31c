"""Sweeps: failures stop nobody, the end is a table, Optuna works, a sweep run again does what is missing."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.conftest import SMALL, Sdrun


def table(outputs: Path) -> list[dict[str, str]]:
    """The newest sweep.csv."""
    with max(outputs.glob("sweeps/*/sweep.csv")).open() as file:
        return list(csv.DictReader(file))


def test_a_failing_job_is_reported_and_the_others_go_on(sdrun: Sdrun, tmp_path: Path) -> None:
    command = ("-m", "method=vanilla", "schedule.lr=1e-3,1e38,0,2e-3", *(word for word in SMALL if "lr=" not in word))
    ended = sdrun(*command)
    assert ended.code == 1
    assert "2 of 4 jobs failed" in ended.err
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished", "failed", "failed", "finished"]
    assert "training diverged" in jobs[1]["reason"]
    assert "greater than 0" in jobs[2]["reason"]
    assert ended.out.index("job 1 failed") < ended.out.index("job 2:")  # at once
    (log,) = (tmp_path / "outputs").glob("sweeps/*/jobs/1.log")
    assert "Traceback" in log.read_text()
    # Once more: what has finished is not done again.
    again = sdrun(*command)
    assert again.code == 1
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["skipped", "failed", "failed", "skipped"]


def test_a_named_sweep_with_optuna(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("-m", "+sweep=optuna_tau_alpha", "hydra.sweeper.n_trials=3", *SMALL)
    assert ended.code == 0, ended.err
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished"] * 3
    assert len({job["key"] for job in jobs}) == 3


def test_a_mistake_in_any_job_of_a_sweep_is_found_before_the_first_one_starts(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("-m", "method=vanilla,dynsdp", *SMALL)
    assert ended.code == 1
    assert "Did you mean 'dynsdpb'?" in ended.err
    assert not list((tmp_path / "outputs").glob("*/*/vanilla"))


def test_jobs_as_processes_of_their_own(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("-m", "hydra/launcher=slurm_local", "method=vanilla", "seed=0,1", *SMALL)
    assert ended.code == 0, ended.err
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished"] * 2
