"""How much of the machine a run uses: floating-point operations of its matrix products against the ceiling."""

from __future__ import annotations

import logging
import time
from functools import lru_cache

import torch

from selfdistill_cli.engine.passes import Passes

log = logging.getLogger(__name__)

MOST_SECONDS = 0.3
"""For measuring the ceiling."""


def utilization(
    training: Passes, seconds: float, precision: str, device: torch.device, processes: int
) -> dict[str, float | None]:
    """Tokens and useful operations a second while training, and their share of the ceiling (MFU).

    training: what the steps computed; seconds: of the steps alone. Useful are the products of forward and backward
    pass on real tokens, not on padding. With several processes, the ceiling is that of one times their number.
    """
    if not (seconds and training.flops):
        return {"tokens_per_s": None, "gflops_per_s": None, "matmul_gflops_per_s": None, "mfu": None}
    achieved = training.flops / seconds / 1e9
    reached: dict[str, float | None] = {
        "tokens_per_s": round(training.tokens / seconds, 1),
        "gflops_per_s": round(achieved, 2),
    }
    try:
        ceiling = matmul_ceiling(precision, device) * processes
    except RuntimeError as error:  # no memory is left, say: the run has ended, and its result must not be lost to this
        log.warning("the machine's fastest product could not be measured: %s", error)
        return reached | {"matmul_gflops_per_s": None, "mfu": None}
    return reached | {"matmul_gflops_per_s": round(ceiling, 1), "mfu": round(achieved / ceiling, 4)}


@lru_cache(maxsize=4)
def matmul_ceiling(precision: str, device: torch.device) -> float:
    """The fastest product of two large square matrices, in 10^9 operations a second, as measured now."""
    size = 1024 if device.type == "cpu" else 8192
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    for attempt in range(20):
        at = time.perf_counter()
        left @ right
        if device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        best = min(best, now - at) if attempt else best  # the first one sets the library up
        if attempt and now - began > MOST_SECONDS:
            break
    return 2 * size**3 / best / 1e9
