"""What would make a processor wait for a card: values that are read off tensors, and shapes that depend on values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from selfdistill_cli.evaluation.drawing import TrainingAnswers
from selfdistill_cli.models import masks

READS = {
    torch.ops.aten._local_scalar_dense.default: "a value is read",
    torch.ops.aten.nonzero.default: "places are looked for",
    torch.ops.aten.masked_select.default: "a mask selects",
    torch.ops.aten.equal.default: "tensors are compared",
    torch.ops.aten.unique_dim.default: "unique values are looked for",
    torch.ops.aten._unique2.default: "unique values are looked for",
}
SCATTERS = (torch.ops.aten.scatter_add, torch.ops.aten.scatter_add_, torch.ops.aten.scatter)
"""Deterministic on a card, they copy the strides to it and wait."""


class Waits(TorchDispatchMode):
    """Notes every operation that a card would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.looks = True

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.looks:
            return function(*args, **(kwargs or {}))
        masked = function.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put) and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if function in READS:
            self.found.append(f"{READS[function]}: {function}")
        elif masked:
            self.found.append(f"a mask selects: {function}")
        elif function.overloadpacket in SCATTERS and args[0].dim() > 1:
            self.found.append(f"scattered: {function}")
        return function(*args, **(kwargs or {}))


@contextmanager
def as_on_a_card() -> Iterator[Waits]:
    """What would be waited for while this lasts; models find their masks as on a card.

    Answers that a step draws are not looked at: each token of one depends on the one before, and the last is waited for.
    """
    draw = TrainingAnswers.draw

    def drawn(*arguments: Any) -> Any:
        waits.looks = False
        found = draw(*arguments)
        waits.looks = True
        return found

    told = mock.patch.object(masks, "waits", return_value=True)
    with told, mock.patch.object(TrainingAnswers, "draw", drawn), Waits() as waits:
        yield waits
