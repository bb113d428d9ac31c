"""Attention of concatenated examples, each to itself alone: rows of similar length make one matrix product.

Inside it a row is filled up by less than `STEP` places, or by at most a quarter where few shapes are wanted. Short examples
share rows of `SHARED` places: a dozen products of a few places each would take longer to start than to compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from selfdistill_cli.engine.batching import coarse
from selfdistill_cli.models.cpu.dropout import LEVELS, drawn, kept_of

STEP = 8
"""Lengths whose multiples of this are the same share a group."""
SHARED = 32
"""Places of a row that examples share, if more than one goes into it."""


@dataclass(frozen=True)
class Group:
    """g rows of as many places, attended to in one product; each holds one example, or several short ones."""

    keys: slice
    """Which part of the slots is theirs [g · heads · width]."""
    width: int
    queries: slice
    """Which part of the queries' slots is theirs [g · heads · asking]."""
    asking: int
    """Places of a row that attend: all of them, or its first token."""
    scores: slice
    """Which part of all scores is theirs [g · heads · asking · width]."""
    apart: Tensor | None
    """True where a place does not attend to another [g, 1, 1 or width, width]; None if every one attends to all."""


@dataclass(frozen=True)
class Groups:
    """Where each head of each token goes, and where it comes from: rows of [tokens · heads, d]."""

    of: list[Group]
    slots: Tensor
    """The row of each slot [S], group by group, each [g, heads, width]; an empty place has the row of its first token."""
    rows: Tensor
    """The slot of each row [tokens · heads]."""
    queries: Tensor
    """The row of each query's slot [Q]: that of every slot, or of first tokens alone."""
    empty: Tensor | None
    """Which queries' slots are empty places; None if none is."""
    first: bool
    """Whether first tokens alone attend."""
    _biases: dict[torch.dtype, list[Tensor | None]] = field(default_factory=dict)

    @classmethod
    def by_length(cls, lengths: np.ndarray, heads: int, few_shapes: bool = False, first: bool = False) -> Groups:
        """Of examples with these lengths, one behind the other. few_shapes: widths are on a coarse scale. first: of each
        example the first token alone attends."""
        starts = np.cumsum(lengths) - lengths
        of_head = np.arange(heads)[None, :, None]
        rows = np.zeros(int(lengths.sum()) * heads, dtype=np.int64)
        groups: list[Group] = []
        slots, queries, empty = [], [], []
        keys_end = queries_end = scores_end = 0
        for width, members in _shared(lengths, few_shapes, alone=first):
            example, token = _filled(members, width, lengths, starts)
            real = example >= 0
            part = token[:, None, :] * heads + of_head
            taken = np.broadcast_to(real[:, None, :], part.shape)
            asking = 1 if first else width
            before = (keys_end, queries_end, scores_end)
            keys_end, queries_end = keys_end + part.size, queries_end + part[..., :asking].size
            scores_end += part[..., :asking].size * width
            rows[part[taken]] = np.arange(before[0], keys_end).reshape(part.shape)[taken]
            slots.append(part.ravel())
            queries.append(part[..., :asking].ravel())
            empty.append(~taken[..., :asking].ravel())
            shares = any(len(row) > 1 for row in members)
            apart = example[:, None, :, None] != example[:, None, None, :] if shares else ~real[:, None, None, :]
            groups.append(
                Group(
                    keys=slice(before[0], keys_end),
                    width=width,
                    queries=slice(before[1], queries_end),
                    asking=asking,
                    scores=slice(before[2], scores_end),
                    apart=torch.from_numpy(apart) if apart.any() else None,
                )
            )
        (unused,) = np.nonzero(np.concatenate(empty))
        return cls(
            groups,
            slots=torch.from_numpy(np.concatenate(slots)),
            rows=torch.from_numpy(rows),
            queries=torch.from_numpy(np.concatenate(queries)),
            empty=torch.from_numpy(unused) if len(unused) else None,
            first=first,
        )

    @property
    def scores(self) -> int:
        """How many there are in all."""
        return self.of[-1].scores.stop

    def biases(self, dtype: torch.dtype) -> list[Tensor | None]:
        """What is added to the scores of each group so that examples keep apart: faster than to fill them in; made once
        for all layers."""
        if dtype not in self._biases:
            least = torch.finfo(dtype).min
            self._biases[dtype] = [
                None
                if group.apart is None
                else torch.zeros(group.apart.shape, dtype=dtype).masked_fill_(group.apart, least)
                for group in self.of
            ]
        return self._biases[dtype]

    def gathered(self, x: Tensor) -> Tensor:
        """[tokens, heads, d] to [S, d]."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self.slots)

    def asked(self, x: Tensor) -> Tensor:
        """[tokens, heads, d] to [Q, d]."""
        return x.reshape(-1, x.shape[-1]).index_select(0, self.queries)

    def back(self, x: Tensor, like: Tensor) -> Tensor:
        """What `gathered` gave to the shape of `like`: [tokens, heads, d]."""
        return x.index_select(0, self.rows).view(like.shape)

    def answered(self, x: Tensor, like: Tensor) -> Tensor:
        """What `asked` gave to the shape of `like`: [tokens, heads, d]; zero for tokens that do not attend."""
        if self.first:
            return x.new_zeros(like.shape).view(-1, x.shape[-1]).index_copy_(0, self.queries, x).view(like.shape)
        return self.back(x, like)


def _shared(lengths: np.ndarray, few_shapes: bool, alone: bool) -> Iterator[tuple[int, list[list[int]]]]:
    """The examples of each row, by the rows' width. alone: one in each row."""
    widths = coarse(lengths, least=STEP, parts=4) if few_shapes else -(-lengths // STEP) * STEP
    if not alone:
        widths = np.maximum(widths, SHARED)
    for width in np.unique(widths).tolist():
        (members,) = np.nonzero(widths == width)
        if width == SHARED and not alone:
            rows = _packed(members[np.argsort(-lengths[members], kind="stable")].tolist(), lengths)
        else:
            rows = [[member] for member in members.tolist()]
        yield width if few_shapes else max(int(lengths[row].sum()) for row in rows), rows


def _packed(members: list[int], lengths: np.ndarray) -> list[list[int]]:
    """Examples, from long to short, into rows of `SHARED` places: each into the fullest that it fits in."""
    by_room: list[list[list[int]]] = [[] for _ in range(SHARED + 1)]
    for member in members:
        need = int(lengths[member])
        room = next((room for room in range(need, SHARED) if by_room[room]), SHARED)
        row = by_room[room].pop() if room < SHARED else []
        row.append(member)
        by_room[room - need].append(row)
    return [row for rows in by_room for row in rows]


def _filled(
    rows: list[list[int]], width: int, lengths: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The example and the token at each place of the rows [g, width]: -1 and the row's first token where there is none."""
    example = np.full((len(rows), width), -1)
    token = np.empty((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        token[number], place = starts[row[0]], 0
        for member in row:
            length = int(lengths[member])
            example[number, place : place + length] = member
            token[number, place : place + length] = np.arange(starts[member], starts[member] + length)
            place += length
    return example, token


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, dropout: float
) -> Tensor:
    """dropout(softmax(q kᵀ · scale)) v of each example by itself; all [tokens, heads, d]. Zero for tokens that `groups`
    does not let attend."""
    result: Tensor = _GroupedAttention.apply(query, key, value, groups, scale, kept_of(dropout))  # type: ignore[no-untyped-call]
    return result


class _GroupedAttention(Function):
    """Dropout keeps with 1 what it keeps; its scale goes where it is cheap: to the values [S, d]."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query, key, value, groups, scale, kept = inputs
        heads = query.shape[1]
        q, k, v = groups.asked(query).mul_(scale), groups.gathered(key), groups.gathered(value)
        mask = None if kept == LEVELS else drawn(q, kept, groups.scores)
        ctx.groups, ctx.scale, ctx.scale_kept = groups, scale, LEVELS / max(kept, 1)
        if mask is not None:
            v.mul_(ctx.scale_kept)
        found, every_p = torch.empty_like(q), []
        for group, bias in zip(groups.of, groups.biases(q.dtype), strict=True):
            scores = torch.bmm(_rows(q, group.queries, group.asking), _rows(k, group.keys, group.width).transpose(1, 2))
            if bias is not None:
                scores.view(-1, heads, group.asking, group.width).add_(bias)
            p = scores.softmax(-1)
            dropped = p if mask is None else p * _scores(mask, group)
            torch.bmm(dropped, _rows(v, group.keys, group.width), out=_rows(found, group.queries, group.asking))
            every_p.append(p)
        ctx.save_for_backward(q, k, v, mask, *every_p)
        return groups.answered(found, query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *every_p = ctx.saved_tensors
        groups = ctx.groups
        of_found = groups.asked(gradient)
        if groups.empty is not None:  # an empty place has another token's gradient
            of_found.index_fill_(0, groups.empty, 0)
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        for group, p in zip(groups.of, every_p, strict=True):
            g, values = _rows(of_found, group.queries, group.asking), _rows(v, group.keys, group.width)
            dropped = p if mask is None else p * _scores(mask, group)
            torch.bmm(dropped.transpose(1, 2), g, out=_rows(of_v, group.keys, group.width))
            of_p = torch.bmm(g, values.transpose(1, 2))
            if mask is not None:
                of_p.mul_(_scores(mask, group))
            of_scores = torch._softmax_backward_data(of_p, p, -1, p.dtype)
            keys, queries = _rows(k, group.keys, group.width), _rows(q, group.queries, group.asking)
            torch.bmm(of_scores, keys, out=_rows(of_q, group.queries, group.asking))
            torch.bmm(of_scores.transpose(1, 2), queries, out=_rows(of_k, group.keys, group.width))
        if mask is not None:
            of_v.mul_(ctx.scale_kept)
        of_query = groups.answered(of_q.mul_(ctx.scale), gradient)
        return of_query, groups.back(of_k, gradient), groups.back(of_v, gradient), None, None, None


def _rows(x: Tensor, part: slice, places: int) -> Tensor:
    """A group's part of [slots, d] as [g · heads, places, d]."""
    return x[part].view(-1, places, x.shape[-1])


def _scores(x: Tensor, group: Group) -> Tensor:
    """A group's part of all scores as [g · heads, asking, width]."""
    return x[group.scores].view(-1, group.asking, group.width)
