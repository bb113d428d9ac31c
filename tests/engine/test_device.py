"""What a run computes on, and with how many threads."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from selfdistill_cli.engine import device
from selfdistill_cli.engine.device import (
    as_here,
    be_deterministic,
    make_accelerator,
    naming_what_cannot_be_deterministic,
    widest,
)
from selfdistill_cli.engine.runtime import make_runtime
from selfdistill_cli.errors import UserError
from tests.helpers.runs import composed


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    yield
    torch.set_num_threads(before)


def test_an_apple_gpu_has_no_float64() -> None:
    kinds = {kind: widest(torch.device(kind)) for kind in ("cpu", "cuda", "mps")}
    assert kinds == {"cpu": torch.float64, "cuda": torch.float64, "mps": torch.float32}


def test_a_slurm_job_takes_the_threads_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    make_accelerator(composed("runtime.device=cpu").runtime)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("said_by", ["runtime.threads", "OMP_NUM_THREADS"])
def test_what_the_user_says_goes_before(said_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    torch.set_num_threads(5)  # what torch made of OMP_NUM_THREADS when it was imported
    if said_by == "OMP_NUM_THREADS":
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        make_accelerator(composed("runtime.device=cpu").runtime)
        assert torch.get_num_threads() == 5
    else:
        make_accelerator(composed("runtime.device=cpu", "runtime.threads=2").runtime)
        assert torch.get_num_threads() == 2


def test_several_processes_take_what_is_asked_for_and_not_their_share_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_several(**settings: Any) -> Accelerator:
        accelerator = Accelerator(**settings)
        torch.set_num_threads(7)
        return accelerator

    monkeypatch.setattr(device, "Accelerator", of_several)
    make_accelerator(composed("runtime.device=cpu", "runtime.threads=2").runtime)
    assert torch.get_num_threads() == 2


def test_what_was_prepared_is_not_held_as_long_as_the_run_lasts() -> None:
    runtime = make_runtime(composed("runtime.device=cpu").runtime, "float32")
    model = torch.nn.Linear(2, 2)
    alive = weakref.ref(model)
    runtime.prepare(model)
    del model
    gc.collect()
    assert alive() is None


def test_a_run_of_a_card_is_taken_up_on_a_processor() -> None:
    asked = composed("runtime.device=cuda", "runtime.precision=fp16").runtime
    here = as_here(asked)
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (here.device, here.precision) == ("auto", "fp16" if has_gpu else "fp32")
    assert (asked.device, asked.precision) == ("cuda", "fp16")
    stays = as_here(composed("runtime.device=cpu", "runtime.precision=bf16").runtime)
    assert (stays.device, stays.precision) == ("cpu", "bf16")


def test_what_cannot_be_deterministic_is_refused_by_name() -> None:
    """`put_` is one of the few operations without a deterministic kernel on a processor too."""
    be_deterministic(True)
    try:
        with (
            pytest.raises(UserError, match=r"needs put_, of which [\s\S]* runtime\.deterministic=false"),
            naming_what_cannot_be_deterministic(),
        ):
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    finally:
        be_deterministic(False)
