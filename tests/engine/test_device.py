"""How many threads a run takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from selfdistill_cli.engine.runtime import be_deterministic, make_accelerator, naming_what_cannot_be_deterministic
from selfdistill_cli.errors import UserError
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
