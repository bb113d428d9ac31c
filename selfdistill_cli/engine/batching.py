"""Micro-batches sorted by length: the same gradient as one padded batch, with far less padding.

Every loss is a sum over examples, so a batch may be cut anywhere. Cutting it where lengths differ
most saves the work that padding would cost; cutting too often leaves small matrices.
"""

from __future__ import annotations

import numpy as np

CALL_OVERHEAD_TOKENS = 64
"""What one more forward and backward pass costs, in tokens of work."""


def micro_batches(lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Cut a batch into micro-batches of similar length with the least cost.

    lengths: tokens of each example [n]. token_budget: tokens, padding included, that a micro-batch
    may hold (one example may exceed it alone). Returns positions into `lengths`, a partition of
    0 … n−1, longest micro-batch first: if memory is short, the first one fails, not the last.

    The cost of a cut is the padded tokens of its micro-batches plus CALL_OVERHEAD_TOKENS for each;
    dynamic programming over the sorted lengths finds the cheapest one.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = np.asarray(lengths, dtype=np.int64)[order]
    n = len(order)
    cost = np.zeros(n + 1)  # cost[j]: cheapest way to cover the first j examples
    start = np.zeros(n + 1, dtype=int)
    for end in range(1, n + 1):
        # A micro-batch [i, end) costs its padded size; those over the budget are out, except single examples.
        padded = ordered[end - 1] * (end - np.arange(end))
        allowed = padded <= token_budget
        allowed[-1] = True
        candidates = np.where(allowed, cost[:end] + padded + CALL_OVERHEAD_TOKENS, np.inf)
        start[end] = int(candidates.argmin())
        cost[end] = candidates[start[end]]
    parts, end = [], n
    while end > 0:
        parts.append(order[start[end] : end])
        end = start[end]
    return parts


def budget_batches(lengths: np.ndarray, token_budget: int, largest: int = 256) -> list[np.ndarray]:
    """Cut a whole split, sorted by length, into batches under the budget: for prediction.

    Positions into `lengths`, longest first; at most `largest` examples in one batch.
    """
    order = np.argsort(-lengths, kind="stable")
    parts, begin = [], 0
    while begin < len(order):
        # Longest first, so the first example of a batch sets its width.
        size = max(1, min(largest, token_budget // max(1, int(lengths[order[begin]]))))
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
