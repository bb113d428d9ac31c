"""The most memory a process held, and seconds that are not counted."""

from __future__ import annotations

import mmap
import sys
import time

import numpy as np
import pytest
import torch

from selfdistill_cli.system.overhead import FORGET, Overhead, peak_memory_mb

CPU = torch.device("cpu")


def hold(megabytes: int) -> None:
    """Hold so many 10^6 bytes for a moment, every page of them touched."""
    with mmap.mmap(-1, megabytes * 10**6) as memory:  # not from what earlier tests of this process have freed
        assert np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE].sum() == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a peak")
def test_the_peak_is_what_was_held_at_most_and_can_be_forgotten() -> None:
    overhead = Overhead(CPU)
    overhead.forget_peak()
    before = peak_memory_mb(CPU)
    hold(300)
    held = overhead.as_fields()["peak_memory_mb"]
    assert before is not None
    assert 290 < held - before < 330
    if FORGET.exists():
        overhead.forget_peak()
        after = peak_memory_mb(CPU)
        assert after is not None
        assert after < held - 250


def test_what_is_done_aside_is_no_overhead() -> None:
    overhead = Overhead(CPU)
    began = time.monotonic()
    with overhead.not_counted():
        time.sleep(0.2)
    seconds = overhead.as_fields()["overhead_seconds"]
    assert 0 <= seconds <= time.monotonic() - began - 0.19
