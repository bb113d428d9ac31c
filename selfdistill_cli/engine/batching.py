"""Micro-batches sorted by length: the same gradient as one padded batch, with far less padding, or none.

Every loss is a sum over units (an example, or the copies of it that are seen together), so a batch may be cut
anywhere between two of them. Cutting it where lengths differ most saves the work that padding would cost; cutting too
often leaves small matrices. A model that takes examples one after the other gets as few as the token budget allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

TAKES_CONCATENATED = "takes_concatenated"
"""The attribute of a model that reads examples one after the other: a `models.concatenated.Concatenation`."""


def coarse(sizes: np.ndarray, least: int, parts: int) -> np.ndarray:
    """The next sizes of a coarse scale, int64: `parts` steps between two powers of two, and none smaller than `least`.

    Kernels that are compiled for each new shape are compiled for few.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    steps = np.maximum(least, 2 ** np.floor(np.log2(np.maximum(sizes, 1))).astype(np.int64) // parts)
    return -(-sizes // steps) * steps


def coarse_total(tokens: int) -> int:
    """What so many tokens, one example behind the other, are filled up to: at most a sixteenth more, or 15."""
    return int(coarse(np.array(tokens), least=16, parts=16))


@dataclass(frozen=True)
class Batching:
    """How large batches are, and in which shapes they come."""

    token_budget: int
    """Tokens, padding included, that a micro-batch may hold."""
    width_multiple: int = 1
    """Rows are padded to a multiple of this."""
    count_multiple: int = 1
    """Micro-batches hold a multiple of this many examples, but for what is left over."""
    call_cost: int = 64
    """What one more forward and backward pass costs, in tokens of work."""
    padded: bool = True
    """Whether every example is filled up to the longest of its micro-batch; else one stands behind the other."""
    few_totals: bool = False
    """Without padding: whether the row of all examples is filled up (`coarse_total`)."""

    @classmethod
    def of_few_shapes(cls, token_budget: int) -> Batching:
        """For bf16 on a processor: kernels are compiled for every new shape, and the work on a token is cheap."""
        return cls(token_budget, width_multiple=16, count_multiple=4, call_cost=256)

    @classmethod
    def of_card(cls, token_budget: int) -> Batching:
        """For a GPU: launching the kernels of one more pass takes longer than thousands of tokens of work."""
        return cls(token_budget, call_cost=4096)

    def of(self, model: Any) -> Batching:
        """For this model: without padding if it can do without."""
        taken = getattr(model, TAKES_CONCATENATED, None)
        if taken is None:
            return self
        return replace(self, padded=False, width_multiple=1, count_multiple=1, few_totals=taken.few_shapes)

    @property
    def padding(self) -> str:
        """In words: `longest`, or `none`."""
        return "longest" if self.padded else "none"

    def size(self, lengths: np.ndarray) -> int:
        """Tokens, padding included, of a micro-batch of examples with these lengths."""
        if self.padded:
            return len(lengths) * int(self.widths(lengths).max())
        total = int(lengths.sum())
        return coarse_total(total) if self.few_totals else total

    def widths(self, lengths: np.ndarray) -> np.ndarray:
        """What rows of these lengths are padded to, int64."""
        multiple = self.width_multiple
        return -(-np.asarray(lengths, dtype=np.int64) // multiple) * multiple


def micro_batches(lengths: np.ndarray, batching: Batching, copies: int = 1) -> list[np.ndarray]:
    """Cut a batch into micro-batches of similar length with the least cost.

    lengths: tokens of one copy of each unit [n]; copies: how many a unit has, which stay together. A single unit may
    exceed the token budget. Returns positions into `lengths`, a partition of 0 … n−1, longest micro-batch first: if
    memory is short, the first one fails, not the last.

    The cost of a cut is the tokens of its micro-batches, padding included, plus `call_cost` for each;
    dynamic programming over the sorted lengths finds the cheapest one.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = batching.widths(lengths)[order]
    n, budget = len(order), batching.token_budget // copies
    together = batching.count_multiple // math.gcd(batching.count_multiple, copies)
    if n and together * ordered[-1] > budget:
        together = 1
    # Where cuts may be, counted from the long end: what is left over are the shortest examples.
    edges = np.array([0, *range((n - 1) % together + 1, n + 1, together)])
    before = np.concatenate([[0], ordered.cumsum()])  # tokens of the examples before each one
    cost = np.zeros(len(edges))  # cost[j]: cheapest way to cover the first edges[j] examples
    start = np.zeros(len(edges), dtype=int)
    for end in range(1, len(edges)):
        # A micro-batch costs its size; those over the budget are out, except the smallest ones.
        widest, counts = ordered[edges[end] - 1], edges[end] - edges[:end]
        size = widest * counts if batching.padded else before[edges[end]] - before[edges[:end]]
        allowed = size <= budget
        allowed[-1] = True
        candidates = np.where(allowed, cost[:end] + copies * size + batching.call_cost, np.inf)
        start[end] = int(candidates.argmin())
        cost[end] = candidates[start[end]]
    parts, end = [], len(edges) - 1
    while end > 0:
        parts.append(order[edges[start[end]] : edges[end]])
        end = start[end]
    return parts


def prediction_batches(lengths: np.ndarray, batching: Batching, largest: int = 256) -> list[np.ndarray]:
    """Cut a whole split, sorted by length, into batches for prediction.

    Positions into `lengths`, longest first; at most `largest` examples in one batch. Without a gradient nothing
    but the current layer is held, so the budget stretches twice as far.
    """
    widths, budget = batching.widths(lengths), 2 * batching.token_budget
    order = np.argsort(-lengths, kind="stable")
    parts, begin = [], 0
    while begin < len(order):
        # Longest first, so the first example of a batch sets its width.
        rest = widths[order[begin : begin + largest]]
        held = rest[0] * np.arange(1, len(rest) + 1) if batching.padded else rest.cumsum()
        size = max(1, int((held <= budget).sum()))
        parts.append(order[begin : begin + size])
        begin += size
    return parts


class EpochOrder:
    """The seeded order in which epochs go through the training set; any step can be asked for directly."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = -(-size // batch_size)
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def fresh(self, step: int) -> list[int]:
        """Row numbers of the fresh examples of optimizer step `step` (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.size)
        return self._order[place * self.batch_size : (place + 1) * self.batch_size].tolist()
