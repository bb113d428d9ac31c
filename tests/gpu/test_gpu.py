"""On a CUDA card: the same command gives the same bits, also after a stop; figures are a processor's, nearly; nobody waits.

pytest -m gpu tests/gpu -n 6 --dist=load        # several processes share the card; SDRUN_GPU_TESTS_ON=cpu: the same on a processor
"""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path

import pytest
import torch

from selfdistill_cli.errors import UserError
from tests.gpu.card import ON, TASKS, cases, command, continued, in_precision, stop, train, waits_of_steps
from tests.helpers import every_method
from tests.helpers.processes import run_command, user_environment
from tests.helpers.runs import assert_same, only_run, results, rows

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned to write a little, for methods whose teacher somebody has to name."""
    return train(tmp_path_factory.mktemp("writer"), command("vanilla", "synth_arithmetic"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("method", "task"), cases())
def test_the_same_command_gives_the_same_bits_also_after_a_stop(
    method: str, task: str, precision: str, tmp_path: Path, writer: Path
) -> None:
    words = command(method, task, in_precision(precision), teacher=writer)
    undisturbed = train(tmp_path / "undisturbed", words)
    assert_same(undisturbed, continued(tmp_path / "stopped", words))
    trained = rows(undisturbed, "train")
    assert all(math.isfinite(row["loss"]) for row in trained)
    assert sum("update_skipped" not in row for row in trained) >= 5  # fp16 begins with a scale that may be too large


@pytest.mark.parametrize("task", TASKS)
def test_bf16_goes_on_after_a_stop_as_well(task: str, tmp_path: Path) -> None:
    words = command("dynsdpb", task, in_precision("bf16"))
    assert_same(train(tmp_path / "undisturbed", words), continued(tmp_path / "stopped", words))


@pytest.mark.parametrize(("method", "task"), cases("model.dropout=0", drawing=False))
def test_losses_are_those_of_a_processor(method: str, task: str, tmp_path: Path, writer: Path) -> None:
    """Without dropout, whose draws differ from device to device; float32 adds up in another order there."""
    words = command(method, task, "model.dropout=0", teacher=writer)
    on_card = rows(train(tmp_path / "card", words), "train")
    on_processor = rows(train(tmp_path / "processor", [*words, "runtime.device=cpu"]), "train")
    assert on_card[0]["loss"] == pytest.approx(on_processor[0]["loss"], rel=1e-5)  # before any update
    for one, other in zip(on_card, on_processor, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=5e-3, abs=1e-5), one["step"]
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=5e-2, abs=1e-5), one["step"]
    narrow = [*words, "schedule.max_steps=2", in_precision("fp16")]
    of_fp16 = rows(train(tmp_path / "narrow", narrow), "train")[0]["loss"]
    assert of_fp16 == pytest.approx(on_processor[0]["loss"], rel=3e-2, abs=1e-3)


@pytest.mark.parametrize("task", ["synth_entailment", "synth_arithmetic"])
def test_a_killed_process_leaves_what_the_next_one_goes_on_with(task: str, tmp_path: Path) -> None:
    """With a real kill, of a command: nothing of the process outlives it."""
    words = [word.replace("'", "") for word in command("dynsdpb", task)]
    found = []
    for name, variables in (("undisturbed", {}), ("killed", {"SDRUN_FAULT_AT": "45"})):
        folder = tmp_path / name
        folder.mkdir()
        environment = user_environment(folder)
        if variables:
            killed = run_command(folder, environment | variables, *words)
            assert killed.code == -signal.SIGKILL, killed.err
        ended = run_command(folder, environment, *words)
        assert ended.code == 0, ended.err
        found.append(every_method.run_of(folder / "outputs", *words))
    assert_same(*found)


@pytest.mark.skipif(ON == "cpu", reason="what a processor does for itself reads values: tests/engine/test_waiting.py")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("method", "task"), cases())
def test_no_step_waits_for_the_card(method: str, task: str, precision: str, tmp_path: Path, writer: Path) -> None:
    words = command(method, task, in_precision(precision), teacher=writer)
    if every_method.draws(method):
        pytest.skip("its steps draw answers, each token of which depends on the one before")
    with waits_of_steps() as waits:
        train(tmp_path, words)
    assert sorted(set(waits)) == []


def test_what_waits_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdistill_cli.methods import Vanilla

    loss = Vanilla.loss

    def waiting(self: Vanilla, logits: torch.Tensor, batch: object) -> object:
        float(logits.sum())
        return loss(self, logits, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Vanilla, "loss", waiting)
    with waits_of_steps() as waits:
        train(tmp_path, command("vanilla", "synth_entailment"))
    assert len(waits) >= 8  # once in each step that is watched


def test_a_divergence_names_its_step_and_leaves_nothing_that_came_after(tmp_path: Path) -> None:
    """Though the card is some steps further when it is found."""
    words = command("vanilla", "synth_entailment", "schedule.lr=1e35", "schedule.warmup_ratio=0")
    words += ["schedule.max_grad_norm=null", "schedule.evaluate_every=10", "runtime.checkpoint_every='100 steps'"]
    with pytest.raises(UserError, match="training diverged") as error:
        train(tmp_path, words)
    named = int(re.search(r"at step (\d+)", str(error.value))[1])  # type: ignore[index]
    run = only_run(tmp_path / "outputs")
    assert [row["step"] for row in rows(run, "train")] == list(range(1, named))
    assert not (run / "results.json").exists()
    assert not list(run.glob("checkpoints/step-*"))


@pytest.mark.parametrize("task", ["synth_entailment", "synth_arithmetic"])
def test_compiled_kernels_compute_what_others_do(task: str, tmp_path: Path) -> None:
    words = command("static_sd", task, "model.dropout=0")
    plain = rows(train(tmp_path / "plain", words), "train")
    compiled = rows(continued(tmp_path / "compiled", [*words, "runtime.compile=true"]), "train")
    for one, other in zip(compiled, plain, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-2, abs=1e-4), one["step"]
    stop(tmp_path / "other", [*words, "runtime.compile=true"], after=4)
    with pytest.raises(UserError, match=r"begun with runtime\.compile=true"):
        train(tmp_path / "other", words)


@pytest.mark.skipif(ON == "cpu", reason="a processor has no name of a card")
def test_a_run_says_on_which_card_it_was_made(tmp_path: Path) -> None:
    run = train(tmp_path, command("vanilla", "synth_entailment"))
    assert torch.cuda.get_device_name() in (run / "environment.json").read_text()
    assert results(run)["matmul_gflops_per_s"] > 1000
