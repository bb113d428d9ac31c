"""Jobs on a real SLURM: sweeps end with their table; what is preempted, killed or out of time goes on."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import user_environment
from tests.helpers.runs import SECRET, SMALL, assert_same, only_run, results, table
from tests.slurm.conftest import (
    LONG,
    LONGER,
    Sweep,
    hurry_requeued,
    job_id,
    the_machine_dies,
    wait,
)


def job_log(said: str, ending: str) -> str:
    """What the one job of a sweep printed, over all its starts."""
    (folder,) = re.findall(r"logs: (\S+)", said)
    (log,) = Path(folder).rglob(f"*_log.{ending}")
    return log.read_text()


def restarts(said: str) -> int:
    """How often the one job of a sweep was started again."""
    return job_log(said, "out").count("Starting with JobEnvironment") - 1


def test_a_sweep_ends_with_its_table(tmp_path: Path) -> None:
    two = ("hydra.launcher.cpus_per_task=2", "hydra.launcher.setup=['unset OMP_NUM_THREADS']")
    ended = Sweep(tmp_path, "method=vanilla,static_sd", "seed=0,1", *two, *SMALL).end()
    assert ended.code == 0, ended.out
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished"] * 4
    assert "4 finished" in ended.out
    assert "sacct" not in ended.out
    written = list((tmp_path / "outputs").glob("*/*/*/*/environment.json"))
    assert len(written) == 4
    for path in written:
        assert json.loads(path.read_text())["processor_threads"] == 2  # those of the job, not of the machine
    # Once more: nothing is left to submit.
    again = Sweep(tmp_path, "method=vanilla,static_sd", "seed=0,1", *SMALL).end()
    assert again.code == 0
    assert "SLURM's job" not in again.out
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished earlier"] * 4


def test_a_failing_job_stops_nobody(tmp_path: Path) -> None:
    rates = "schedule.lr=1e-3,2e-3,1e38,3e-3"
    ended = Sweep(tmp_path, "method=vanilla", rates, *(word for word in SMALL if "lr=" not in word)).end()
    assert ended.code == 1
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished", "finished", "failed", "finished"]
    assert "training diverged" in jobs[2]["reason"]
    assert "1 of 4 jobs failed" in ended.out


def test_a_sweep_left_alone_is_waited_for_again_and_not_submitted_twice(tmp_path: Path) -> None:
    words = ("method=vanilla", "schedule.lr=1e-3,1e38", *(word for word in LONG if "lr=" not in word))
    first = Sweep(tmp_path, *words)
    first.until_checkpoint()
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(timeout=30) == 130
    assert "Traceback" not in first.log.read_text()
    again = Sweep(tmp_path, *words).end()
    assert again.code == 1, again.out
    assert "in SLURM's queue already" in again.out  # one or both: the second soon ends
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished", "failed"]
    assert "training diverged" in jobs[1]["reason"]
    (log,) = (tmp_path / "outputs").glob(f"*/*/*/{jobs[0]['key']}/train.log")
    assert log.read_text().count("training and 20 validation examples") == 1


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


def test_a_preempted_job_is_requeued_and_goes_on(tmp_path: Path, undisturbed_longer: Path) -> None:
    sweep = Sweep(tmp_path, "method=dynsdpb", *LONGER)
    sweep.until_checkpoint()
    urgent = subprocess.run(["srun", "--partition=urgent", "--exclusive", "sleep", "3"], timeout=60, check=True)
    assert urgent.returncode == 0
    ended = sweep.end()
    assert ended.code == 0, ended.out
    assert restarts(ended.out) == 1
    assert "SIGTERM: a checkpoint after this step" in job_log(ended.out, "err")
    assert_same(only_run(undisturbed_longer), only_run(tmp_path / "outputs"))


def test_a_preempted_script_of_the_users_is_requeued_and_goes_on(tmp_path: Path, undisturbed_longer: Path) -> None:
    sdrun = " ".join([sys.executable, "-m", "selfdistill_cli.train", "method=dynsdpb", *map(shlex.quote, LONGER)])
    batch = ["sbatch", "--requeue", "--mem=2G", "--output=job.log", "--open-mode=append", f"--wrap=srun {sdrun}"]
    subprocess.run(batch, cwd=tmp_path, env=user_environment(tmp_path), check=True)
    wait(lambda: list(tmp_path.glob("outputs/*/*/*/*/checkpoints/step-*")))
    subprocess.run(["srun", "--partition=urgent", "--exclusive", "sleep", "3"], timeout=60, check=True)
    wait(hurry_requeued)
    said = (tmp_path / "job.log").read_text()
    assert "SIGTERM: a checkpoint after this step" in said
    assert "going on after step" in said
    assert_same(only_run(undisturbed_longer), only_run(tmp_path / "outputs"))


def test_a_job_whose_time_is_nearly_up_is_requeued_until_it_is_done(tmp_path: Path, undisturbed_longer: Path) -> None:
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=25")
    ended = Sweep(tmp_path, "method=dynsdpb", *LONGER, *limit).end()
    assert ended.code == 0, ended.out
    assert restarts(ended.out) >= 1
    assert_same(only_run(undisturbed_longer), only_run(tmp_path / "outputs"))


def test_a_job_killed_by_its_time_limit_is_reported_and_the_same_command_finishes_it(
    tmp_path: Path, undisturbed_longer: Path
) -> None:
    # In place of the warning a signal that nobody heeds; and most of the minute is gone before training begins.
    unwarned = ("hydra.launcher.timeout_min=1", "+hydra.launcher.additional_parameters.signal=URG@1")
    ended = Sweep(tmp_path, "method=dynsdpb", *LONGER, *unwarned, "hydra.launcher.setup=['sleep 50']").end()
    assert ended.code == 1
    (job,) = table(tmp_path / "outputs")
    assert "ended as TIMEOUT" in job["reason"]
    again = Sweep(tmp_path, "method=dynsdpb", *LONGER).end()
    assert again.code == 0, again.out
    assert_same(only_run(undisturbed_longer), only_run(tmp_path / "outputs"))


def test_a_job_whose_machine_dies_is_requeued_and_goes_on(tmp_path: Path, undisturbed: Path) -> None:
    sweep = Sweep(tmp_path, "method=dynsdpb", *LONG)
    sweep.until_checkpoint()
    the_machine_dies()
    ended = sweep.end()
    assert ended.code == 0, ended.out
    assert restarts(ended.out) == 1
    assert "was left behind by process" in job_log(ended.out, "err")
    assert_same(only_run(undisturbed), only_run(tmp_path / "outputs"))


def test_the_tasks_of_a_job_train_one_model_and_are_requeued_together(tmp_path: Path) -> None:
    words = ("method=static_sd", "hydra.launcher.tasks_per_node=2", *LONG, "schedule.epochs=40")
    runs = []
    for name in ("undisturbed", "interrupted"):
        folder = tmp_path / name
        folder.mkdir()
        sweep = Sweep(folder, *words)
        if name == "interrupted":
            sweep.until_checkpoint()
            subprocess.run(["scancel", "--signal=USR2", job_id()], check=True)
        ended = sweep.end()
        assert ended.code == 0, ended.out
        runs.append(only_run(folder / "outputs"))
    assert results(runs[0])["processes"] == 2
    assert_same(*runs)


def test_srun_alone_starts_the_tasks_of_one_run(tmp_path: Path) -> None:
    command = ["srun", "--ntasks=2", "--mem=4G", sys.executable, "-m", "selfdistill_cli.train", "method=dcs", *SMALL]
    ended = subprocess.run(command, cwd=tmp_path, env=user_environment(tmp_path), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert results(only_run(tmp_path / "outputs", "dcs"))["processes"] == 2
    assert ended.stdout.count("dcs on synth_entailment (tiny_bert, seed 0)") == 1


def test_what_sbatch_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    ended = Sweep(tmp_path, "method=vanilla", "hydra.launcher.partition=nowhere", *SMALL).end()
    assert ended.code == 1
    assert "SLURM took no job" in ended.out
    assert "invalid partition" in ended.out
    assert "Traceback" not in ended.out


def test_nothing_secret_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", SECRET)
    assert Sweep(tmp_path, "method=vanilla", *SMALL).end().code == 0
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
