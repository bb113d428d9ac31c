"""Causal attention of concatenated examples, each to itself alone, as attention of padded rows of similar length.

A row is filled up at its end, where no token of its own looks, so nothing has to be masked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from selfdistill_cli.engine.batching import coarse

STEP = 16
"""Lengths whose multiples of this are the same share a group."""


@dataclass(frozen=True)
class Rows:
    """Where each of T tokens stands in rows of several widths, S places in all."""

    shapes: list[tuple[int, int]]
    """Of each group, how many rows and how many places of each."""
    tokens: Tensor
    """The token at each place [S]; at one that is filled up, the first of its row."""
    places: Tensor
    """The place of each token [T]."""

    @classmethod
    def by_length(cls, lengths: np.ndarray, few_shapes: bool = False) -> Rows:
        """Of examples with these lengths, one behind the other. few_shapes: widths are on a coarse scale."""
        starts = np.cumsum(lengths) - lengths
        widths = coarse(lengths, least=STEP, parts=4) if few_shapes else -(-lengths // STEP) * STEP
        shapes, tokens, places, end = [], [], np.empty(int(lengths.sum()), dtype=np.int64), 0
        for width in np.unique(widths).tolist():
            (members,) = np.nonzero(widths == width)
            offsets = np.arange(width)
            real = offsets < lengths[members, None]
            of_group = starts[members, None] + np.where(real, offsets, 0)
            places[of_group[real]] = end + np.flatnonzero(real)
            shapes.append(real.shape)
            tokens.append(of_group.ravel())
            end += real.size
        return cls(shapes, torch.from_numpy(np.concatenate(tokens)), torch.from_numpy(places))


def attention_in_rows(
    query: Tensor, key: Tensor, value: Tensor, rows: Rows, attend: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """What `attend` finds for each row: of [g, heads, width, d] it makes [g, width, heads, d]. All that is given is
    [T, heads, d], and so is the result; key and value may have fewer heads."""
    inputs: list[Tensor] = [_ToRows.apply(x, rows) for x in (query, key, value)]  # type: ignore[no-untyped-call]
    found, end = [], 0
    for count, width in rows.shapes:
        begin, end = end, end + count * width
        found.append(
            attend(*(x[begin:end].view(count, width, *x.shape[1:]).transpose(1, 2) for x in inputs)).flatten(0, 1)
        )
    result: Tensor = _FromRows.apply(torch.cat(found), rows)  # type: ignore[no-untyped-call]
    return result


class _ToRows(Function):
    """[T, …] to [S, …]. What is filled up is read by no token, so its gradient is zero: each token has that of its place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows) -> Tensor:
        ctx.places = rows.places
        return x.index_select(0, rows.tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.places), None


class _FromRows(Function):
    """[S, …] to [T, …]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows) -> Tensor:
        ctx.places, ctx.shape = rows.places, x.shape
        return x.index_select(0, rows.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.new_zeros(ctx.shape).index_copy_(0, ctx.places, gradient), None
