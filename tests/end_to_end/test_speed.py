"""What a run tells of its speed, and the precision that it keeps."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from selfdistill_cli.engine.device import chosen_precision
from tests.helpers.processes import Sdrun, started, user_environment
from tests.helpers.runs import SMALL, composed, only_run, results, rows


def test_a_profiled_run_tells_the_time_of_each_phase_and_leaves_a_trace(sdrun: Sdrun, tmp_path: Path) -> None:
    words = ("method=dcs", "runtime.profile=true", "runtime.trace_steps=2", *SMALL)
    assert sdrun(*words).code == 0
    run = only_run(tmp_path / "outputs", "dcs")
    found = results(run)
    phases = found["phase_seconds"]
    measured = {
        "data",
        "drawing",
        "forward",
        "loss",
        "backward",
        "optimizer",
        "diagnostics",
        "evaluation",
        "checkpoint",
    }
    assert set(phases) == {*measured, "other"}
    assert all(phases[name] > 0 for name in ("data", "forward", "loss", "backward", "optimizer", "evaluation"))
    assert sum(phases.values()) == pytest.approx(found["seconds"], abs=0.01)  # "other" is the rest
    assert sum(phases[name] for name in ("data", "forward", "loss", "backward", "optimizer")) <= found["step_seconds"]
    assert (run / "trace.json.gz").stat().st_size > 1000


def test_every_run_tells_how_much_of_the_machine_it_used(sdrun: Sdrun, tmp_path: Path) -> None:
    assert sdrun("method=vanilla", *SMALL).code == 0
    run = only_run(tmp_path / "outputs")
    found = results(run)
    assert "phase_seconds" not in found
    assert not (run / "trace.json.gz").exists()
    assert found["tokens_per_s"] == pytest.approx(found["tokens"] / found["step_seconds"], rel=0.01)
    assert 0 < found["gflops_per_s"] < found["matmul_gflops_per_s"]
    assert found["mfu"] == pytest.approx(found["gflops_per_s"] / found["matmul_gflops_per_s"], abs=1e-3)
    assert found["precision"] == "fp32"
    assert found["step_seconds"] < found["seconds"]
    assert found["overhead_seconds"] > 0
    assert found["peak_memory_mb"] > 100  # torch alone holds more
    # 6 operations a weight of a matrix and token, forward and backward, and 12 · length · width a token and layer in
    # attention, over at most 64 tokens. The pooler, the output and what follows the last layer's attention see one token
    # of each example, counted once a token above and not at all below.
    weights = load_file(run / "model" / "model.safetensors")
    layers = sum(w.numel() for name, w in weights.items() if ".layer." in name and w.ndim == 2)
    once = sum(w.numel() for name, w in weights.items() if w.ndim == 2 and ("pooler" in name or "classifier" in name))
    assert layers == 2 * (4 * 32**2 + 2 * 32 * 64)
    operations = found["gflops_per_s"] * 1e9 / found["tokens_per_s"]
    assert found["padding"] == "none"
    assert 0.98 * 6 * (layers - 32**2 - 2 * 32 * 64) < operations < 1.02 * (6 * layers + 12 * 64 * 32 * 2 + 6 * once)


@pytest.mark.slow
def test_bf16_trains_too_and_is_recorded(sdrun: Sdrun, tmp_path: Path) -> None:
    assert sdrun("method=dynsdpb", "runtime.precision=bf16", *SMALL).code == 0
    run = only_run(tmp_path / "outputs")
    assert results(run)["precision"] == "bf16"
    assert rows(run, "train")[-1]["loss"] > 0


@pytest.mark.slow
def test_a_run_goes_on_in_the_precision_that_it_began_with(sdrun: Sdrun, tmp_path: Path) -> None:
    words = ("method=vanilla", *SMALL, "schedule.epochs=30", "runtime.checkpoint_every='4 steps'")
    process = started(tmp_path, user_environment(tmp_path), *words, until="*/*/*/*/checkpoints/step-*/manifest.json")
    process.send_signal(signal.SIGKILL)
    assert process.end().code == -signal.SIGKILL
    other = sdrun(*words, "runtime.precision=bf16")
    assert other.code == 1
    assert "begun with runtime.precision=fp32" in other.err
    assert "rerun=true" in other.err
    assert sdrun(*words).code == 0


@pytest.mark.parametrize(
    ("able", "expected"), [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")]
)
def test_auto_takes_bf16_only_where_the_processor_has_it(
    able: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert chosen_precision("auto", on_cpu=True) == expected
    for asked in ("fp32", "bf16", "fp16"):
        assert chosen_precision(asked, on_cpu=True) == asked


def test_the_precision_is_fp32_unless_it_is_asked_for() -> None:
    assert composed().runtime.precision == "fp32"
    assert json.dumps(composed("+experiment=dynsdpb_paper").runtime.precision) == '"fp32"'
