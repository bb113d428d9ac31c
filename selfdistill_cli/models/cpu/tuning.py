"""All of it at once, on a model that is about to be trained."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from torch import nn

from selfdistill_cli.models.cpu.attention import pack_attention_dropout
from selfdistill_cli.models.cpu.dropout import pack_dropout
from selfdistill_cli.models.cpu.frozen import keep_frozen_narrow

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Of <malloc.h>."""


def keep_freed_memory() -> bool:
    """Ask glibc to take all memory from the heap and to give none back; whether it will.

    By default each large tensor is mapped anew and unmapped when it is freed: a step of MiniLM then faults
    more pages in than its matrix products take time for. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, value) for option, value in
               ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**26)))  # fmt: skip


def _fuse_low_rank(model: nn.Module) -> None:
    if "peft" in sys.modules:  # without LoRA nothing has imported it, and it takes a second
        from selfdistill_cli.models.cpu.low_rank import fuse_low_rank

        fuse_low_rank(model)


TUNINGS: dict[str, Callable[[nn.Module], object]] = {
    "memory": lambda _: keep_freed_memory(),
    "dropout": pack_dropout,
    "attention": pack_attention_dropout,
    "frozen": keep_frozen_narrow,
    "low_rank": _fuse_low_rank,  # of layers that the one before has marked
}
"""By name, so that a benchmark can leave one out."""


def tune(model: nn.Module) -> None:
    """Make training of this model fast on a processor: the same distribution of losses and gradients."""
    for apply in TUNINGS.values():
        apply(model)
