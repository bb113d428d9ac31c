"""Skips where there is no card."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.card import ON


@pytest.fixture(scope="module", autouse=True)
def card() -> None:
    if ON == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA card")
    torch.set_num_threads(2)
