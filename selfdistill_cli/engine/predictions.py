"""Predictions of some examples: tensors of one row each, or a language model's values at their answer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfdistill_cli.engine.transfer import on_device


@dataclass(frozen=True)
class OutputLayer:
    """The output matrix of a language model: logits are Σ_j inputs_j · weights_jᵀ + bias."""

    weights: tuple[Tensor | None, ...]
    """[V, k_j] each. None in the memory of a method: not trained, so still the model's own."""
    bias: Tensor | None
    whole: bool = True
    """Whether this is all of the layer that made the predictions. False: what is None is the model's own."""


@dataclass(frozen=True)
class TokenRows:
    """Columns of values at T answer tokens, the tokens of m examples one after the other; indexed by example.

    How many tokens each example has is known on the CPU, wherever the values are: nothing here waits for a device.
    """

    lengths: Tensor
    """Answer tokens of each example, S_i [m], on the CPU."""
    columns: dict[str, Tensor]
    """Named values, [T, ...] each, on one device."""
    output: OutputLayer | None = None
    """Of a prediction that was made earlier: the output layer of that time. None: the model's, as it is now."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return next((values.device for values in self.columns.values()), self.lengths.device)

    @cached_property
    def owners_on_host(self) -> Tensor:
        """`owners` on the CPU."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def owners(self) -> Tensor:
        """Which example each token belongs to [T], where the values are."""
        return on_device(self.owners_on_host, self.device)

    @cached_property
    def sizes(self) -> Tensor:
        """`lengths` where the values are."""
        return on_device(self.lengths, self.device)

    @property
    def inputs(self) -> list[Tensor]:
        """What the output layer's factors are multiplied by [T, k_j] each."""
        return [values for name, values in self.columns.items() if name.startswith("input")]

    def __getitem__(self, examples: Tensor | slice | Sequence[int]) -> TokenRows:
        """These examples (numbers, or a bool mask [m]; on the CPU, else it is waited for the device), in this order."""
        numbers = torch.arange(len(self))[examples.cpu() if isinstance(examples, Tensor) else examples]
        lengths = self.lengths[numbers]
        starts = (self.lengths.cumsum(0) - self.lengths)[numbers] - (lengths.cumsum(0) - lengths)
        owners = torch.repeat_interleave(starts, lengths)
        tokens = on_device(owners + torch.arange(len(owners)), self.device)
        return replace(self, lengths=lengths, columns={name: values[tokens] for name, values in self.columns.items()})

    def mean(self, values: Tensor) -> Tensor:
        """Mean over each example's tokens. values [T] -> [m]."""
        totals = torch.zeros(len(self), dtype=values.dtype, device=values.device).index_add(0, self.owners, values)
        return totals / self.sizes.to(values.dtype)

    def detach(self) -> TokenRows:
        """Without gradients."""
        return replace(self, columns={name: values.detach() for name, values in self.columns.items()})

    def to(self, device: torch.device | str) -> TokenRows:
        """On this device; the output layer stays where it is."""
        return replace(self, columns={name: on_device(values, device) for name, values in self.columns.items()})

    def cpu(self) -> TokenRows:
        """On the CPU."""
        return self.to("cpu")

    @classmethod
    def join(cls, pieces: Sequence[TokenRows]) -> TokenRows:
        """The examples of all pieces, one piece after the other."""
        return cls(
            torch.cat([piece.lengths for piece in pieces]),
            {name: torch.cat([piece.columns[name] for piece in pieces]) for name in pieces[0].columns},
            pieces[0].output,
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        output = None if self.output is None else [list(self.output.weights), self.output.bias]
        return {"lengths": self.lengths, "columns": self.columns, "output": output}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TokenRows:
        """Take back what `state_dict` gave."""
        output = None if state["output"] is None else OutputLayer(tuple(state["output"][0]), state["output"][1], False)
        return cls(state["lengths"], dict(state["columns"]), output)


Predictions = Tensor | TokenRows
"""Of m examples: logits [m, C], a single output [m], or values at their answer tokens."""


def join(pieces: Sequence[Any]) -> Any:
    """Predictions of several pieces as one, the examples in the order of the pieces."""
    return torch.cat(list(pieces)) if isinstance(pieces[0], Tensor) else pieces[0].join(pieces)


def on_cpu(logits: Tensor) -> Tensor:
    """Logits as they are kept: float32, on the CPU."""
    return logits.float().cpu()


def rows_of(predictions: Any, rows: Tensor | slice | Sequence[int]) -> Any:
    """These rows (numbers on the CPU [k], or a slice) of predictions, wherever those are, without waiting for a device."""
    if isinstance(predictions, Tensor) and not isinstance(rows, slice):
        return predictions[on_device(torch.as_tensor(rows), predictions.device)]
    return predictions[rows]


HELD_ON_DEVICE = 2**30
"""Bytes: stored predictions of a training set that take more stay in the machine's memory, and come row by row."""


def near(stored: Any, device: torch.device) -> Any:
    """Stored predictions (or None) on this device for good, if they are not too large for that."""
    columns = [stored] if isinstance(stored, Tensor) else [] if stored is None else list(stored.columns.values())
    size = sum(values.numel() * values.element_size() for values in columns)
    if not columns or size > HELD_ON_DEVICE:
        return stored
    if isinstance(stored, Tensor):
        return stored.to(device)
    return replace(stored, columns={name: values.to(device) for name, values in stored.columns.items()})


def in_order(parts: Sequence[tuple[np.ndarray, Any]]) -> Any:
    """Predictions of some examples, made in parts, in the order of the examples' numbers."""
    numbers, pieces = zip(*parts, strict=True)
    return rows_of(join(pieces), torch.from_numpy(np.argsort(np.concatenate(numbers))))
