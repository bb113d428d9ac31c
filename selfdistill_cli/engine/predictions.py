"""Predictions of some examples: tensors of one row each, or a language model's values at their answer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class OutputLayer:
    """The output matrix of a language model: logits are Σ_j inputs_j · weights_jᵀ + bias."""

    weights: tuple[Tensor | None, ...]
    """[V, k_j] each. None in the memory of a method: not trained, so still the model's own."""
    bias: Tensor | None


@dataclass(frozen=True)
class TokenRows:
    """Columns of values at T answer tokens, the tokens of m examples one after the other; indexed by example."""

    lengths: Tensor
    """Answer tokens of each example, S_i [m]."""
    columns: dict[str, Tensor]
    """Named values, [T, ...] each."""
    output: OutputLayer | None = None
    """Of a prediction that was made earlier: the output layer of that time. None: the model's, as it is now."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.lengths.device

    @property
    def owners(self) -> Tensor:
        """Which example each token belongs to [T]."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.lengths)

    @property
    def inputs(self) -> list[Tensor]:
        """What the output layer's factors are multiplied by [T, k_j] each."""
        return [values for name, values in self.columns.items() if name.startswith("input")]

    def __getitem__(self, examples: Tensor | slice | Sequence[int]) -> TokenRows:
        """These examples (numbers, or a bool mask [m]), in this order."""
        numbers = torch.arange(len(self), device=self.device)[_on(examples, self.device)]
        lengths = self.lengths[numbers]
        starts = (self.lengths.cumsum(0) - self.lengths)[numbers] - (lengths.cumsum(0) - lengths)
        tokens = torch.repeat_interleave(starts, lengths) + torch.arange(int(lengths.sum()), device=self.device)
        return replace(self, lengths=lengths, columns={name: values[tokens] for name, values in self.columns.items()})

    def mean(self, values: Tensor) -> Tensor:
        """Mean over each example's tokens. values [T] -> [m]."""
        totals = torch.zeros(len(self), dtype=values.dtype, device=values.device).index_add(0, self.owners, values)
        return totals / self.lengths.to(values.dtype)

    def detach(self) -> TokenRows:
        """Without gradients."""
        return replace(self, columns={name: values.detach() for name, values in self.columns.items()})

    def to(self, device: torch.device | str) -> TokenRows:
        """On this device; the output layer stays where it is."""
        columns = {name: values.to(device) for name, values in self.columns.items()}
        return replace(self, lengths=self.lengths.to(device), columns=columns)

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
        output = None if state["output"] is None else OutputLayer(tuple(state["output"][0]), state["output"][1])
        return cls(state["lengths"], dict(state["columns"]), output)


def _on(examples: Any, device: torch.device) -> Any:
    return examples.to(device) if isinstance(examples, Tensor) else examples


Predictions = Tensor | TokenRows
"""Of m examples: logits [m, C], a single output [m], or values at their answer tokens."""


def join(pieces: Sequence[Any]) -> Any:
    """Predictions of several pieces as one, the examples in the order of the pieces."""
    return torch.cat(list(pieces)) if isinstance(pieces[0], Tensor) else pieces[0].join(pieces)


def on_cpu(logits: Tensor) -> Tensor:
    """Logits as they are kept: float32, on the CPU."""
    return logits.float().cpu()


def in_order(parts: Sequence[tuple[np.ndarray, Any]]) -> Any:
    """Predictions of some examples, made in parts, in the order of the examples' numbers."""
    numbers, pieces = zip(*parts, strict=True)
    return join(pieces)[torch.from_numpy(np.argsort(np.concatenate(numbers)))]
