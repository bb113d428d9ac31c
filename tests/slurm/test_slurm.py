"""Jobs on a real SLURM: sweeps end with their table; what is preempted, killed or out of time goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SMALL, only_run, rows
from tests.crashes.test_crashes import assert_same
from tests.end_to_end.test_sweeps import table
from tests.slurm.conftest import LONG, Sweep, job_id


def restarts(said: str) -> int:
    """How often the one job of a sweep was started again, by its log."""
    (folder,) = re.findall(r"logs: (\S+)", said)
    (log,) = Path(folder).rglob("*_log.out")
    return log.read_text().count("Starting with JobEnvironment") - 1


def test_a_sweep_ends_with_its_table(tmp_path: Path) -> None:
    ended = Sweep(tmp_path, "method=vanilla,static_sd", "seed=0,1", *SMALL).end()
    assert ended.code == 0, ended.out
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished"] * 4
    assert "4 finished" in ended.out
    assert "sacct" not in ended.out
    # Once more: nothing is left to submit.
    again = Sweep(tmp_path, "method=vanilla,static_sd", "seed=0,1", *SMALL).end()
    assert again.code == 0
    assert "SLURM's job" not in again.out
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["skipped"] * 4


def test_a_failing_job_stops_nobody(tmp_path: Path) -> None:
    rates = "schedule.lr=1e-3,2e-3,1e38,3e-3"
    ended = Sweep(tmp_path, "method=vanilla", rates, *(word for word in SMALL if "lr=" not in word)).end()
    assert ended.code == 1
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished", "finished", "failed", "finished"]
    assert "training diverged" in jobs[2]["reason"]
    assert "1 of 4 jobs failed" in ended.out


INTERRUPTIONS = {
    "the signal ahead of the time limit": ["scancel", "--signal=USR2"],
    "the same, to the batch script": ["scancel", "--signal=USR2", "--batch"],
    "the same, to everybody": ["scancel", "--signal=USR2", "--full"],
    "requeued without a warning": ["scontrol", "requeue"],
}


@pytest.mark.parametrize("how", INTERRUPTIONS)
def test_an_interrupted_job_is_requeued_and_goes_on(how: str, tmp_path: Path, undisturbed: Path) -> None:
    sweep = Sweep(tmp_path, "method=dynsdpb", *LONG)
    sweep.until_checkpoint()
    subprocess.run([*INTERRUPTIONS[how], job_id()], check=True)
    ended = sweep.end()
    assert ended.code == 0, ended.out
    assert restarts(ended.out) == 1
    assert_same(only_run(undisturbed), only_run(tmp_path / "outputs"))


def test_a_job_whose_time_is_up_is_requeued_until_it_is_done(tmp_path: Path, undisturbed: Path) -> None:
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=35")
    slow = ("SDRUN",)
    sweep = Sweep(tmp_path, "method=dynsdpb", *limit, *LONG)
    ended = sweep.end()
    assert ended.code == 0, ended.out
    assert_same(only_run(undisturbed), only_run(tmp_path / "outputs"))
    assert restarts(ended.out) >= 1
    assert slow


def test_a_job_whose_step_is_killed_is_reported_and_the_same_command_finishes_it(
    tmp_path: Path, undisturbed: Path
) -> None:
    sweep = Sweep(tmp_path, "method=dynsdpb", *LONG)
    sweep.until_checkpoint()
    steps = subprocess.run(["pgrep", "-f", f"slurmstepd: \\[{job_id()}"], capture_output=True, text=True, check=True)
    for pid in steps.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    ended = sweep.end()
    (job,) = table(tmp_path / "outputs")
    if job["status"] == "failed":  # else SLURM had requeued it
        assert "SLURM's job" in job["reason"]
        assert ended.code == 1
        ended = Sweep(tmp_path, "method=dynsdpb", *LONG).end()
    assert ended.code == 0, ended.out
    assert_same(only_run(undisturbed), only_run(tmp_path / "outputs"))
    assert len(rows(only_run(tmp_path / "outputs"), "train")) == 800
