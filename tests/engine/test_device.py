"""How many threads a run takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from selfdistill_cli.engine.runtime import make_accelerator
from tests.helpers.runs import composed


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    yield
    torch.set_num_threads(before)


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
