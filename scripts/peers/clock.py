"""One clock for every contender: from the first batch of training to the last update of the weights."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook


class Clock:
    """Seconds of all steps of one training, the first included, and the tokens that were computed in them."""

    def __init__(self, steps: int) -> None:
        self._steps = self._left = steps
        self._began = self._middle = self._ended = 0.0
        self._looked_up: Counter[int] = Counter()

    @property
    def seconds(self) -> float:
        """Raises `RuntimeError` if there were not as many steps as were to be."""
        if self._left or not self._began:
            raise RuntimeError(f"{self._left} steps are missing")
        return self._ended - self._began

    @property
    def late_seconds(self) -> float:
        """Of the second half of the steps, before which what compiles has compiled."""
        return self._ended - self._middle

    @property
    def tokens(self) -> int:
        """Looked up in the table of words, padding included; tables of positions and segments are asked no more often."""
        return max(self._looked_up.values())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, it looks at updates of weights."""
        hook = register_optimizer_step_post_hook(self._updated)
        try:
            yield
        finally:
            hook.remove()

    @contextlib.contextmanager
    def looking_at_modules(self) -> Iterator[None]:
        """While this lasts, it looks at forward passes as well. torch.compile would follow it into every module."""
        hook = register_module_forward_pre_hook(self._forward)
        try:
            yield
        finally:
            hook.remove()

    def collated(self, collator: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The collator of a trainer of theirs, each of whose batches is seen here."""

        def collate(rows: Any) -> Any:
            batch = collator(rows)
            self._see(batch["input_ids"], 0)
            return batch

        return collate

    def _forward(self, module: nn.Module, arguments: Any) -> None:
        if module.training and isinstance(module, nn.Embedding):
            self._see(arguments[0], module.num_embeddings)

    def _see(self, ids: torch.Tensor, table: int) -> None:
        if self._left:
            self._began = self._began or _now()
            self._looked_up[table] += ids.numel()

    def _updated(self, *_: Any) -> None:
        self._left -= 1
        if self._left == self._steps // 2:
            self._middle = _now()
        if not self._left:
            self._ended = _now()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
