"""Seeded, stratified subsets: of the training split, or to be held out from it."""

from __future__ import annotations

import numpy as np

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import counted

HOLD_OUT_SEED = 0
"""Fixed, so that runs of all seeds are scored on the same examples."""


def stratified_rows(
    strata: np.ndarray, size: int, rng: np.random.Generator, least: int = 0, left: int = 0
) -> np.ndarray:
    """Choose `size` rows whose strata [N] (classes; deciles in regression) keep their shares.

    Shares are rounded by largest remainder. Of each stratum at least `least` rows are chosen and `left` are not, as
    far as there are so many and `size` allows it. Returns row numbers in ascending order.
    """
    values, counts = np.unique(strata, return_counts=True)
    exact = counts * size / len(strata)
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    quota = _within(quota, exact, np.minimum(least, counts), np.maximum(counts - left, 0))
    chosen = [rng.permutation(np.flatnonzero(strata == value))[:n] for value, n in zip(values, quota, strict=True)]
    return np.sort(np.concatenate(chosen))


def _within(quota: np.ndarray, exact: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Quotas of the same sum within bounds, all [C], where there are such; those within them change the least."""
    size = int(quota.sum())
    if lowest.sum() > size:
        lowest = np.zeros_like(lowest)
    quota = np.clip(quota, lowest, highest)
    while quota.sum() < size and (quota < highest).any():
        quota[np.argmin(np.where(quota < highest, quota - exact, np.inf))] += 1
    while quota.sum() > size:
        quota[np.argmax(np.where(quota > lowest, quota - exact, -np.inf))] -= 1
    return quota


def subset_rows(strata: np.ndarray, size: int, seed: int, classes: bool = False) -> np.ndarray:
    """Rows of a low-resource training set of `size` examples; where strata are `classes`, at least one of each.

    If there are more classes than examples, the frequent ones have some. Raises `UserError` if there are fewer rows.
    """
    if size > len(strata):
        raise UserError(
            f"task.train_examples={size}: the training split has {counted(len(strata), 'example')}. "
            "task.train_examples=null takes them all."
        )
    return stratified_rows(strata, size, np.random.default_rng([seed, size]), least=int(classes))


def noisy_labels(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """Labels of which this share, rounded, is replaced by another class, each of the others as likely."""
    rng = np.random.default_rng([seed, len(labels)])
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[rows] = (labels[rows] + rng.integers(1, classes, size=len(rows))) % classes
    return noisy


def hold_out_rows(strata: np.ndarray, classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rows of four fifths for training and of one for validation.

    Where strata are `classes`, one example of each stays in training, whatever its share. Raises `UserError` below
    five examples, or if nothing could be held out.
    """
    if len(strata) < 5:
        raise UserError(f"{len(strata)} examples are too few to hold out a fifth: give task.validation_path.")
    rng = np.random.default_rng(HOLD_OUT_SEED)
    held_out = stratified_rows(strata, len(strata) // 5, rng, left=int(classes))
    if len(held_out) == 0:
        raise UserError(
            f"Each of the {len(strata)} examples has a class of its own, so none can be held out: give "
            "task.validation_path, or task.label another column."
        )
    return np.setdiff1d(np.arange(len(strata)), held_out), held_out
