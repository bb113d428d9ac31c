"""Attention masks made without reading them: transformers asks the device whether there is padding, and waits for it.

What is padded is known on the CPU, where batches are put together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

_padded: bool | None = None
"""Whether the batch that is being forwarded has padding; None: it is not said, and transformers looks."""


@contextlib.contextmanager
def padding_known(mask: Tensor | None, device: torch.device) -> Iterator[None]:
    """While this lasts, a model on this device is not asked whether there is padding in `mask` (on the CPU).

    The masks are those that it would have found. On a CPU there is nothing to wait for, and it looks.
    """
    global _padded
    if mask is None or not waits(device):
        yield
        return
    AttentionMaskInterface.register("sdpa", _mask)
    before, _padded = _padded, not bool(mask.numpy().all())
    try:
        yield
    finally:
        _padded = before


def waits(device: torch.device) -> bool:
    """Whether a value read off this device is waited for."""
    return device.type == "cuda"


def _mask(*places: Any, attention_mask: Tensor | None = None, **settings: Any) -> Tensor | None:
    """`sdpa_mask` that finds what is known."""
    if torch.compiler.is_compiling() or _padded is None or attention_mask is None:
        pass  # what is compiled is never read
    elif _padded:
        settings |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    else:
        attention_mask = None
    made: Tensor | None = sdpa_mask(*places, attention_mask=attention_mask, **settings)
    return made
