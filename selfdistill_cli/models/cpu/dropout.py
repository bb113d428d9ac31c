"""Dropout whose mask comes from packed random integers: four elements of one 64-bit draw.

torch draws a mask on a processor one double at a time. The distribution here is the same: elements are dropped
independently, at a rate rounded to a multiple of 2^−16, and the rest is scaled by the inverse of exactly that
rate of keeping. Each mask is drawn by NumPy's SFC64, twice as fast as torch's Mersenne twister, from a seed that torch's
global generator draws: so `torch.manual_seed` seeds them all and a checkpoint's random state continues them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LEVELS = 2**16


def kept_of(p: float) -> int:
    """Of `LEVELS`, how many are kept where each element is dropped with probability p."""
    return round((1 - p) * LEVELS)


def dropout(x: Tensor, p: float) -> Tensor:
    """`x` with each element zero with probability p, else multiplied by 1/(1 − p). Shape and type of `x`."""
    kept = kept_of(p)
    if kept == LEVELS:
        return x
    if kept == 0:
        return torch.zeros_like(x) * x
    result: Tensor = _Dropout.apply(x, kept)  # type: ignore[no-untyped-call]
    return result


def drawn(like: Tensor, kept: int, *shape: int) -> Tensor:
    """1 with probability kept/`LEVELS`, else 0, of this shape, or that of `like`, and the type of `like`."""
    size = torch.Size(shape or like.shape)
    draws = np.random.SFC64(int(torch.randint(2**63 - 1, ()))).random_raw(-(-size.numel() // 4))
    mask = torch.from_numpy(draws.view(np.int16))[: size.numel()].view(size)
    # In place on the draws and then to the type asked for: torch is slow at booleans beside floating point.
    return mask.lt_(kept - LEVELS // 2).to(like.dtype)


class _Dropout(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: int) -> Tensor:
        mask = drawn(x, kept)
        ctx.save_for_backward(mask)
        ctx.scale = LEVELS / kept
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None


class PackedDropout(nn.Dropout):
    """`nn.Dropout` by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape and type of the input."""
        return dropout(input, self.p) if self.training else input


def pack_dropout(model: nn.Module) -> None:
    """Let every `nn.Dropout` of the model draw packed masks. One in place, or of another class, stays as it is."""
    for module in model.modules():
        if type(module) is nn.Dropout and not module.inplace:
            module.__class__ = PackedDropout
