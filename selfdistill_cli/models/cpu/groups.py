"""Attention of concatenated examples, each to itself alone: examples of similar length make one matrix product.

Inside it a row is filled up by less than `STEP` places, or by at most a quarter where few shapes are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from selfdistill_cli.engine.batching import coarse
from selfdistill_cli.models.cpu.dropout import keep_mask

STEP = 8
"""Lengths whose multiples of this are the same share a group."""


@dataclass(frozen=True)
class Group:
    """g examples that are attended to together, each in a row of `width` places."""

    begin: int
    end: int
    """Which part of the slots is theirs [g · heads · width]."""
    width: int
    members: slice
    """Which part of the first tokens' rows is theirs [g · heads]."""
    empty: Tensor | None
    """True where a row has no token [g, 1, 1, width]; None if every place has one."""

    def shapes(self, first: bool, d: int) -> tuple[slice, slice, tuple[int, int, int]]:
        """Their slots of keys, their slots of queries, and the shape of the queries' products."""
        place = slice(self.begin, self.end)
        return (place, self.members, (-1, 1, d)) if first else (place, place, (-1, self.width, d))

    def forbidden(self, like: Tensor) -> Tensor:
        """What is added to scores so that no empty place is attended to: much faster than to fill them in."""
        assert self.empty is not None
        return like.new_zeros(self.empty.shape).masked_fill_(self.empty, torch.finfo(like.dtype).min)


@dataclass(frozen=True)
class Groups:
    """Where each head of each token goes, and where it comes from: rows of [tokens · heads, d]."""

    of: list[Group]
    slots: Tensor
    """The row of each slot [S], group by group, each [g, heads, width]; an empty place has the row of a first token."""
    rows: Tensor
    """The slot of each row [tokens · heads]."""
    firsts: Tensor
    """The row of each first token [m · heads], group by group, each [g, heads]."""

    @classmethod
    def by_length(cls, lengths: np.ndarray, heads: int, few_shapes: bool = False) -> Groups:
        """Of examples with these lengths, one behind the other. few_shapes: widths are on a coarse scale."""
        starts = np.cumsum(lengths) - lengths
        steps = coarse(lengths, least=STEP, parts=4) if few_shapes else -(-lengths // STEP)
        slots, firsts, groups, end, seen = [], [], [], 0, 0
        rows = np.zeros(int(lengths.sum()) * heads, dtype=np.int64)
        for step in np.unique(steps):
            (members,) = np.nonzero(steps == step)
            width = int(step if few_shapes else lengths[members].max())
            real = np.arange(width) < lengths[members, None]
            tokens = starts[members, None] + np.where(real, np.arange(width), 0)
            part = tokens[:, None, :] * heads + np.arange(heads)[None, :, None]
            taken = np.broadcast_to(real[:, None, :], part.shape)
            begin, end = end, end + part.size
            rows[part[taken]] = np.arange(begin, end).reshape(part.shape)[taken]
            empty = None if real.all() else torch.from_numpy(~real)[:, None, None, :]
            before, seen = seen, seen + part[:, :, 0].size
            groups.append(Group(begin, end, width, slice(before, seen), empty))
            slots.append(part.ravel())
            firsts.append(part[:, :, 0].ravel())
        places = (torch.from_numpy(np.concatenate(each)) for each in (slots, firsts))
        return cls(groups, next(places), torch.from_numpy(rows), next(places))

    def gathered(self, x: Tensor, first: bool = False) -> Tensor:
        """[tokens, heads, d] to [S, d]; of first tokens alone to [m · heads, d]."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self.firsts if first else self.slots)

    def back(self, x: Tensor, like: Tensor, first: bool = False) -> Tensor:
        """What `gathered` gave to the shape of `like`: [tokens, heads, d]. Zero for tokens that are not first, if they were
        left out."""
        if first:
            return x.new_zeros(like.shape).view(-1, x.shape[-1]).index_copy_(0, self.firsts, x).view(like.shape)
        return x.index_select(0, self.rows).view(like.shape)


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, dropout: float, first: bool = False
) -> Tensor:
    """dropout(softmax(q kᵀ · scale)) v of each example by itself; all [tokens, heads, d].

    first: of each example's first token alone, and zero for all others.
    """
    result: Tensor = _GroupedAttention.apply(query, key, value, groups, scale, dropout, first)  # type: ignore[no-untyped-call]
    return result


class _GroupedAttention(Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query, key, value, groups, scale, dropout, first = inputs
        heads, d = query.shape[1:]
        q, k, v = groups.gathered(query, first).mul_(scale), groups.gathered(key), groups.gathered(value)
        found, kept = torch.empty_like(q), []
        for group in groups.of:
            place, asking, shape = group.shapes(first, d)
            scores = torch.bmm(q[asking].view(shape), k[place].view(-1, group.width, d).transpose(1, 2))
            if group.empty is not None:
                scores.view(-1, heads, shape[1], group.width).add_(group.forbidden(scores))
            p = scores.softmax(-1)
            mask = keep_mask(p, dropout)
            dropped = p if mask is None else p * mask
            torch.bmm(dropped, v[place].view(-1, group.width, d), out=found[asking].view(shape))
            kept.append((p, mask))
        ctx.save_for_backward(q, k, v, *(tensor for pair in kept for tensor in pair))
        ctx.groups, ctx.scale, ctx.first = groups, scale, first
        return groups.back(found, query, first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        groups, heads, d = ctx.groups, gradient.shape[1], q.shape[-1]
        of_found = groups.gathered(gradient, ctx.first)
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        for number, group in enumerate(groups.of):
            p, mask = kept[2 * number], kept[2 * number + 1]
            place, asking, shape = group.shapes(ctx.first, d)
            keys = (-1, group.width, d)
            g = of_found[asking].view(shape)
            if group.empty is not None and not ctx.first:  # an empty place has another token's gradient
                g.view(-1, heads, group.width, d).masked_fill_(group.empty.transpose(-1, -2), 0)
            dropped = p if mask is None else p * mask
            torch.bmm(dropped.transpose(1, 2), g, out=of_v[place].view(keys))
            of_p = torch.bmm(g, v[place].view(keys).transpose(1, 2))
            if mask is not None:
                of_p.mul_(mask)
            of_scores = torch._softmax_backward_data(of_p, p, -1, p.dtype)
            torch.bmm(of_scores, k[place].view(keys), out=of_q[asking].view(shape))
            torch.bmm(of_scores.transpose(1, 2), q[asking].view(shape), out=of_k[place].view(keys))
        of_query = groups.back(of_q.mul_(ctx.scale), gradient, ctx.first)
        return of_query, groups.back(of_k, gradient), groups.back(of_v, gradient), None, None, None, None
