"""On a CUDA card: the same command gives the same bits, also after a kill; figures are those of a processor, nearly."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers import every_method
from tests.helpers.every_method import METHODS, refusal, short_teacher
from tests.helpers.processes import run_command, user_environment
from tests.helpers.runs import SMALL, assert_same, results, rows

TASKS = ("synth_entailment", "synth_similarity", "synth_arithmetic")


@pytest.fixture(scope="module", autouse=True)
def card() -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA card")


def command(method: str, task: str, *more: str) -> list[str]:
    """Ten steps with evaluations and checkpoints between them; a teacher is trained for five steps first."""
    writes = ["model=tiny_llama", "model.dropout=0.1", "task.decoding.max_new_tokens=4"]
    writes = writes if task == "synth_arithmetic" else []
    every = ["runtime.checkpoint_every=3 steps", "schedule.evaluate_every=4"]
    return [f"method={method}", f"task={task}", *SMALL, *writes, *every, *short_teacher(method), *more]


def cases(*more: str) -> list[tuple[str, str]]:
    return [(m, task) for task in TASKS for m in METHODS if refusal(*command(m, task, *more)) is None]


def run_of(folder: Path, words: list[str], **variables: str) -> Path:
    """The run of this command in this folder; `variables` of the environment may kill it once on the way."""
    folder.mkdir(exist_ok=True)
    environment = user_environment(folder)
    if variables:
        killed = run_command(folder, environment | variables, *words)
        assert killed.code == -signal.SIGKILL, killed.err
    ended = run_command(folder, environment, *words)
    assert ended.code == 0, ended.err
    return every_method.run_of(folder / "outputs", *words)


@pytest.mark.gpu
@pytest.mark.parametrize(("method", "task"), cases())
def test_the_same_command_gives_the_same_bits_also_after_a_kill(method: str, task: str, tmp_path: Path) -> None:
    words = command(method, task, "runtime.device=cuda")
    undisturbed = run_of(tmp_path / "undisturbed", words)
    assert_same(undisturbed, run_of(tmp_path / "killed", words, SDRUN_FAULT_AT="45"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("task", TASKS)
def test_narrow_products_go_on_after_a_kill_as_well(precision: str, task: str, tmp_path: Path) -> None:
    words = command("dynsdpb", task, "runtime.device=cuda", f"runtime.precision={precision}")
    undisturbed = run_of(tmp_path / "undisturbed", words)
    assert_same(undisturbed, run_of(tmp_path / "killed", words, SDRUN_FAULT_AT="45"))
    assert all(math.isfinite(row["loss"]) for row in rows(undisturbed, "train"))


@pytest.mark.gpu
@pytest.mark.parametrize(("method", "task"), cases("model.dropout=0"))
def test_losses_are_those_of_a_processor(method: str, task: str, tmp_path: Path) -> None:
    """Without dropout, whose draws differ from device to device; float32 adds up in another order there."""
    words = command(method, task, "model.dropout=0")
    on_card, on_processor = (
        run_of(tmp_path / device, [*words, f"runtime.device={device}"]) for device in ("cuda", "cpu")
    )
    for one, other in zip(rows(on_card, "train"), rows(on_processor, "train"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3), one["step"]
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=2e-2), one["step"]
    first, *_ = zip(rows(on_card, "train"), rows(on_processor, "train"), strict=True)
    assert first[0]["loss"] == pytest.approx(first[1]["loss"], rel=1e-5)  # before any update


@pytest.mark.gpu
def test_a_run_says_on_which_card_it_was_made(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", command("vanilla", "synth_entailment"))
    assert torch.cuda.get_device_name() in (run / "environment.json").read_text()
    assert results(run)["matmul_gflops_per_s"] > 1000
