"""One clock for every contender: from the first forward pass in training to the last update of the weights."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook


class Clock:
    """Seconds of all steps of one training, the first included, and the tokens that were computed in them."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._began = self._ended = 0.0
        self._looked_up: Counter[int] = Counter()

    @property
    def seconds(self) -> float:
        """Raises `RuntimeError` if there were not as many steps as were to be."""
        if self._left or not self._began:
            raise RuntimeError(f"{self._left} steps are missing")
        return self._ended - self._began

    @property
    def tokens(self) -> int:
        """Looked up in the table of words, padding included; tables of positions and segments are asked no more often."""
        return max(self._looked_up.values())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, it looks at modules and optimizers."""
        hooks = register_module_forward_pre_hook(self._forward), register_optimizer_step_post_hook(self._updated)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _forward(self, module: nn.Module, arguments: Any) -> None:
        if not module.training or not self._left:
            return
        self._began = self._began or _now()
        if isinstance(module, nn.Embedding):
            self._looked_up[module.num_embeddings] += arguments[0].numel()

    def _updated(self, *_: Any) -> None:
        self._left -= 1
        if not self._left:
            self._ended = _now()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
