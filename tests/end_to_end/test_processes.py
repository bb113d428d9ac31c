"""Two processes train one model: the same gradients, the same records, continued as one run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from safetensors.torch import load_file

from selfdistill_cli.engine.batching import Batching
from tests.helpers.processes import Finished, Sdrun, killed_together, run_command, start_together, wait_for_file
from tests.helpers.runs import SMALL, assert_same, only_run, results, rows, without_times
from tests.helpers.steps import (
    CASES,
    gradients_of_bfloat16,
    gradients_of_second_step,
    gradients_of_single_example,
    shards_of,
)

BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "127.0.0.1:0"]
ACCELERATE = [str(BIN / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
ODD = (*(word for word in SMALL if "examples" not in word), "task.generator.train_examples=45")
ODD = (*ODD, "task.generator.validation_examples=21", "model.dropout=0")
"""Numbers that two processes cannot share evenly."""


def together(launcher: list[str], folder: Path, environment: dict[str, str], *words: str) -> Finished:
    """`sdrun` as two processes."""
    command = [*launcher, "-m", "selfdistill_cli.train", *words]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return Finished(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.slow
def test_two_processes_give_the_gradients_of_one(environment: dict[str, str], tmp_path: Path) -> None:
    both = start_together(tmp_path, environment, str(tmp_path / "found"), module="tests.helpers.gradients_of_two")
    assert [process.end().code for process in both] == [0, 0]
    found = load_file(tmp_path / "found")
    assert len(found) == sum(len(shards_of(name)) for _, name in CASES) + 2
    for kind, name in CASES:
        gradient, loss = gradients_of_second_step(kind, name, batching=Batching(200))
        for shard in shards_of(name):
            two = found[f"{kind} {name} {shard}"]
            assert float((two[:-1] - gradient).norm() / gradient.norm()) < 1e-5, (kind, name, shard)
            assert float(two[-1]) == pytest.approx(loss, rel=1e-5)
    single = gradients_of_single_example()
    assert float((found["one example for two processes"] - single).norm() / single.norm()) < 1e-5
    rounded = gradients_of_bfloat16()
    assert float((found["weights in bfloat16"] - rounded).norm() / rounded.norm()) < 2e-2


@pytest.mark.parametrize(
    ("launcher", "asked"), [(TORCHRUN, "dynsdpb"), (ACCELERATE, "dcs"), (TORCHRUN, "ema method.evaluate=average")]
)
@pytest.mark.slow
def test_two_processes_leave_the_records_of_one(
    launcher: list[str], asked: str, environment: dict[str, str], sdrun: Sdrun, tmp_path: Path
) -> None:
    method, *settings = asked.split()
    words = (f"method={method}", *settings, *ODD)
    assert sdrun(*words).code == 0
    one = only_run(tmp_path / "outputs", method)
    environment["SDRUN_OUTPUTS"] = str(tmp_path / "two")
    ended = together(launcher, tmp_path, environment, *words)
    assert ended.code == 0, ended.err
    assert ended.out.count(f"{method} on synth_entailment (tiny_bert, seed 0)") == 1  # one process speaks
    two = only_run(tmp_path / "two", method)
    assert (results(one)["processes"], results(two)["processes"]) == (1, 2)
    assert results(one)["examples_forwarded"] == results(two)["examples_forwarded"]
    assert any(name.startswith("signal/") for row in rows(one) for name in row)
    for first, second in zip(rows(one), rows(two), strict=True):
        assert first.pop("kind") == second.pop("kind")
        for name in [name for name in first if name.startswith("signal/")]:
            # Ranks: where rounding makes some of 21 near-equal predictions change places, they jump.
            assert second.pop(name) == pytest.approx(first.pop(name), abs=0.2)
        # abs: after ten steps gradients are a thousandth of what they were, and what is left of them is rounding.
        assert without_times(second) == pytest.approx(without_times(first), rel=1e-3, abs=5e-5)
    tables = [parquet.read_table(run / "predictions.parquet").to_pydict() for run in (one, two)]
    assert tables[0]["index"] == tables[1]["index"] == list(range(21))  # nobody twice
    assert np.array(tables[1]["logits"]) == pytest.approx(np.array(tables[0]["logits"]), abs=1e-4)


@pytest.mark.slow
def test_a_killed_run_of_two_goes_on_and_not_as_one(environment: dict[str, str], tmp_path: Path) -> None:
    words = ("method=dynsdpb", *SMALL, "schedule.epochs=4", "runtime.checkpoint_every=4 steps")
    undisturbed, outputs = killed_together(tmp_path, environment, 50, *words)
    killed = only_run(outputs)
    assert list(killed.glob("checkpoints/step-*"))
    copy = tmp_path / "alone"
    shutil.copytree(outputs, copy)
    alone = run_command(tmp_path, environment | {"SDRUN_OUTPUTS": str(copy)}, *words)
    assert alone.code == 1
    assert "begun by 2 processes" in alone.err
    assert [process.end().code for process in start_together(tmp_path, environment, *words)] == [0, 0]
    assert_same(only_run(undisturbed), killed)


def test_a_signal_to_one_process_stops_both_with_a_checkpoint(environment: dict[str, str], tmp_path: Path) -> None:
    words = ("method=static_sd", *SMALL, "schedule.epochs=400", "runtime.checkpoint_every=1000 epochs")
    both = start_together(tmp_path, environment, *words)
    wait_for_file(both[0], tmp_path / "outputs", "*/*/*/*/metrics.jsonl")
    both[1].send_signal(signal.SIGUSR1)
    for process in both:
        ended = process.end(timeout=120)
        assert ended.code == 128 + signal.SIGUSR1
        assert "with a checkpoint: the same command goes on from there" in ended.err
    assert list(only_run(tmp_path / "outputs").glob("checkpoints/step-*"))


def test_a_sweep_by_several_processes_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    for process in start_together(tmp_path, environment, "-m", "seed=0,1", *SMALL):
        ended = process.end()
        assert ended.code == 1
        assert "a sweep cannot be run by several processes together" in ended.err


def test_an_experiment_by_several_processes_is_refused_although_nobody_said_m(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("+experiment=seeds", *SMALL, WORLD_SIZE="2", RANK="0")
    assert ended.code == 1
    assert "a sweep cannot be run by several processes together" in ended.err
    assert not list(tmp_path.glob("outputs/*/*/*/*"))
