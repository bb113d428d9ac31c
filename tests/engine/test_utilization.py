"""Phases add up time; operations are those of the formula; a trace is one that its viewers read."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from selfdistill_cli.engine import profiling
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.engine.profiling import PHASES, WARM_UP_STEPS, Phases, traced
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.engine.utilization import matmul_ceiling, utilization
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import make_examples, make_methods, make_model

CPU = torch.device("cpu")


def test_phases_add_up_what_they_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 22.0])
    monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    phases = Phases(True, CPU)
    for _ in range(2):
        with phases("loss"):
            pass
    assert phases.seconds["loss"] == 2.5
    assert set(phases.seconds) == set(PHASES)
    assert phases.seconds["data"] == 0


def test_phases_that_are_not_measured_leave_nothing() -> None:
    phases = Phases(False, CPU)
    with phases("loss"):
        pass
    assert phases.seconds == {}


@pytest.mark.parametrize("steps", [2, 50])
def test_a_trace_holds_the_phases_of_the_steps_after_a_warm_up(steps: int, tmp_path: Path) -> None:
    """Fifty steps are more than there are: what was traced until the end is written."""
    phases, path = Phases(True, CPU), tmp_path / "trace.json.gz"
    with traced(steps, path) as trace:
        for _ in range(8):
            with phases("forward"):
                torch.ones(3).sum()
            trace.step()
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert names.count("sdrun: forward") == min(steps, 8 - WARM_UP_STEPS)


def test_without_a_number_of_steps_nothing_is_traced(tmp_path: Path) -> None:
    with traced(None, tmp_path / "trace.json.gz") as trace:
        assert trace is None
    assert not list(tmp_path.iterdir())


def test_a_step_tells_its_tokens_with_padding() -> None:
    examples, model = make_examples("classification"), make_model("classification")
    method = make_methods("classification", examples, model)["vanilla"]
    rows = list(range(10))
    one = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(10**9))
    each = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(1))
    assert one.tokens == each.tokens == each.padded_tokens == examples.lengths[rows].sum()
    assert one.padded_tokens >= one.tokens


def test_the_share_of_the_ceiling() -> None:
    found = utilization(Passes(10, 10, 5000, 2e10), 2.0, "fp32", CPU, processes=2)
    assert found["tokens_per_s"] == 2500
    assert found["gflops_per_s"] == 10
    assert found["matmul_gflops_per_s"] == pytest.approx(2 * matmul_ceiling("fp32", CPU), abs=0.1)
    assert found["mfu"] == pytest.approx(10 / (2 * matmul_ceiling("fp32", CPU)), abs=1e-4)
    assert utilization(Passes(), 0.0, "fp32", CPU, 1)["mfu"] is None


def test_a_ceiling_that_cannot_be_measured_costs_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> float:
        raise torch.OutOfMemoryError("no memory is left")

    monkeypatch.setattr("selfdistill_cli.engine.utilization.matmul_ceiling", out_of_memory)
    found = utilization(Passes(10, 10, 5000, 2e10), 2.0, "fp32", CPU, processes=1)
    assert found == {"tokens_per_s": 2500, "gflops_per_s": 10, "matmul_gflops_per_s": None, "mfu": None}


@pytest.mark.slow
def test_the_ceiling_is_at_least_a_product_timed_by_hand() -> None:
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    a @ b
    began = time.perf_counter()
    a @ b
    by_hand = 2 * 1024**3 / (time.perf_counter() - began) / 1e9
    assert matmul_ceiling("fp32", CPU) > 0.3 * by_hand
