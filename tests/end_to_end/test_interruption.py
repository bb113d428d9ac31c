"""Signals to a real run: the step is finished, a checkpoint written, the way on said, and it is the same run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers.processes import run_command, started
from tests.helpers.runs import SMALL, only_run, rows

ENDLESS = ("method=dynsdpb", *SMALL, "schedule.epochs=100000", "runtime.checkpoint_every=100000 epochs")
"""Nothing but a request to stop ends it, and nothing else writes a checkpoint."""


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_ends_the_run_with_a_checkpoint(
    name: signal.Signals, environment: dict[str, str], tmp_path: Path
) -> None:
    process = started(tmp_path, environment, *ENDLESS, until="*/*/*/*/metrics.jsonl")
    process.send_signal(name)
    ended = process.end(timeout=60)
    assert ended.code == 128 + name
    assert "Traceback" not in ended.err
    assert f"sdrun: {name.name}: stopped after step" in ended.err
    assert "the same command goes on from there" in ended.err
    run = only_run(tmp_path / "outputs")
    (checkpoint,) = run.glob("checkpoints/step-*")
    assert int(checkpoint.name.removeprefix("step-")) == rows(run, "train")[-1]["step"]
    assert not (run / "lock").exists()
    log = (run / "train.log").read_text()
    assert "INFO interrupted: stopped after step" in log
    assert "Traceback" not in log


def test_a_signal_before_the_first_step_ends_it_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    process = started(tmp_path, environment, *ENDLESS, until="*/*/*/*/lock")
    process.send_signal(signal.SIGTERM)
    ended = process.end(timeout=60)
    assert ended.code == 128 + signal.SIGTERM
    assert "sdrun: SIGTERM: stopped" in ended.err
    assert "Traceback" not in ended.err


def test_the_most_recent_checkpoint_that_is_whole_is_gone_on_from(environment: dict[str, str], tmp_path: Path) -> None:
    words = ("method=static_sd", *SMALL, "runtime.checkpoint_every=3 steps")
    killed = run_command(tmp_path, environment | {"SDRUN_FAULT_AT": "45"}, *words)
    assert killed.code == -signal.SIGKILL
    run = only_run(tmp_path / "outputs")
    damaged = sorted(run.glob("checkpoints/step-*"))[-1]
    tensors = damaged / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    ended = run_command(tmp_path, environment, *words)
    assert ended.code == 0
    assert f"checkpoint {damaged.name} is damaged (tensors.safetensors does not match its checksum)" in ended.err
    assert [row["step"] for row in rows(run, "train")] == list(range(1, 11))
