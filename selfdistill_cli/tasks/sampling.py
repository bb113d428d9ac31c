"""Seeded, stratified subsets: of the training split, or to be held out from it."""

from __future__ import annotations

import numpy as np

from selfdistill_cli.errors import UserError

HOLD_OUT_SEED = 0
"""Fixed, so that runs of all seeds are scored on the same examples."""


def stratified_rows(strata: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Choose `size` rows whose strata [N] (classes; deciles in regression) keep their shares.

    Shares are rounded by largest remainder. Returns row numbers in ascending order.
    """
    values, counts = np.unique(strata, return_counts=True)
    exact = counts * size / len(strata)
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: size - quota.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(strata == value))[:n] for value, n in zip(values, quota, strict=True)]
    return np.sort(np.concatenate(chosen))


def subset_rows(strata: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Rows of a low-resource training set of `size` examples. Raises `UserError` if there are fewer."""
    if size > len(strata):
        raise UserError(f"task.train_examples={size}: the training split has {len(strata)} examples.")
    return stratified_rows(strata, size, np.random.default_rng([seed, size]))


def noisy_labels(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """Labels of which this share, rounded, is replaced by another class, each of the others as likely."""
    rng = np.random.default_rng([seed, len(labels)])
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[rows] = (labels[rows] + rng.integers(1, classes, size=len(rows))) % classes
    return noisy


def hold_out_rows(strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of four fifths for training and of one for validation. Raises `UserError` below five examples."""
    if len(strata) < 5:
        raise UserError(f"{len(strata)} examples are too few to hold out a fifth: give task.validation_path.")
    held_out = stratified_rows(strata, len(strata) // 5, np.random.default_rng(HOLD_OUT_SEED))
    return np.setdiff1d(np.arange(len(strata)), held_out), held_out
