"""Jobs side by side on this machine: the runs are those of one after the other, and nothing that sweeps have is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers.processes import Sdrun, started
from tests.helpers.runs import SECRET, SMALL, assert_same, only_run, rows, table

LOCAL = ("-m", "hydra/launcher=local", "hydra.launcher.jobs_per_gpu=2")


def test_each_job_is_the_run_that_it_would_be_alone_and_a_teacher_is_trained_once(sdrun: Sdrun, tmp_path: Path) -> None:
    small = [word for word in SMALL if "epochs" not in word]
    words = ("method.teacher.epochs=1", "method.tau=1,2", *small, "schedule.epochs=1")
    beside = sdrun(*LOCAL, "method=kd,vanilla", *words)
    assert beside.code == 0, beside.err
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished"] * 3
    assert beside.out.startswith("2 jobs at once on the processor")
    # The second job needs the teacher that the first one trains: the third is begun before it.
    begun = [beside.out.index(f"job {number} of 3: ") for number in (1, 3, 2)]
    assert begun == sorted(begun)
    assert "job 1: accuracy 0." in beside.out
    assert "3 jobs: 3 finished" in beside.out
    made = list((tmp_path / "outputs").glob("*/*/*/*/results.json"))
    assert len(made) == 4  # the three, and one teacher
    assert "waiting for it" not in "".join(path.read_text() for path in tmp_path.rglob("*.out"))

    alone = sdrun("-m", "method=kd,vanilla", *words, f"paths.outputs={tmp_path}/alone")
    assert alone.code == 0, alone.err
    for run in made:
        assert_same(run.parent, tmp_path / "alone" / run.parent.relative_to(tmp_path / "outputs"))


@pytest.mark.slow
def test_a_job_that_is_killed_or_fails_stops_no_other_and_the_same_command_goes_on(
    sdrun: Sdrun, tmp_path: Path
) -> None:
    small = [word for word in SMALL if "lr=" not in word and "epochs" not in word]
    command = (*LOCAL, "method=vanilla", "schedule.lr=1e38,1e-3", "schedule.epochs=1,8", *small)
    # The two that get so far are killed, as the system kills what wants too much memory.
    ended = sdrun(*command, SDRUN_FAULT_AT="60", SECRET_TOKEN=SECRET)
    assert ended.code == 1
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["failed", "failed", "finished", "failed"]
    assert "training diverged" in jobs[0]["reason"]
    assert "its process ended without a result (SIGKILL)" in jobs[3]["reason"]
    assert "job 4 failed: its process ended" in ended.out
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    again = sdrun(*command)
    assert [job["status"] for job in table(tmp_path / "outputs")] == [
        "failed",
        "failed",
        "finished earlier",
        "finished",
    ]
    assert "job 3: accuracy" in again.out


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_sweep_leaves_each_run_with_a_checkpoint(
    name: signal.Signals, environment: dict[str, str], tmp_path: Path
) -> None:
    endless = ("method=vanilla", *SMALL, "schedule.epochs=100000", "runtime.checkpoint_every=100000 epochs")
    sweep = started(tmp_path, environment, *LOCAL, *endless, "seed=0", until="*/*/*/*/metrics.jsonl")
    sweep.send_signal(name)
    ended = sweep.end(timeout=60)
    assert ended.code == 128 + name
    assert f"sdrun: {name.name}: 1 job left: the same command goes on with what was begun" in ended.err
    assert "job 1 left: stopped after step" in ended.out
    assert "Traceback" not in ended.err + ended.out
    run = only_run(tmp_path / "outputs")
    (checkpoint,) = run.glob("checkpoints/step-*")
    assert int(checkpoint.name.removeprefix("step-")) == rows(run, "train")[-1]["step"]
    assert not (run / "lock").exists()


def test_how_many_at_once_has_bounds(sdrun: Sdrun) -> None:
    ended = sdrun("-m", "hydra/launcher=local", "hydra.launcher.jobs_per_gpu=0", "seed=0,1", *SMALL)
    assert ended.code == 1
    assert "hydra.launcher.jobs_per_gpu=0: must be at least 1." in ended.err
    elsewhere = sdrun("-m", "hydra.launcher.jobs_per_gpu=2", "seed=0,1", *SMALL)
    assert "hydra/launcher=basic has no jobs_per_gpu: local has it." in elsewhere.err
