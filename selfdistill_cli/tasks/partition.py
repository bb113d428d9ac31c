"""Parts of a training split that have no example in common: a share held out to select on, folds of a cross-validation.

Examples that show the model the same, or that are scored together (`task.group`), are one unit: it is never divided,
so that nothing of what is trained on stands in the part that judges it.
"""

from __future__ import annotations

import numpy as np

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks.sampling import HOLD_OUT_SEED, stratified_rows
from selfdistill_cli.tasks.split import Split


def units(split: Split) -> np.ndarray:
    """The unit of each example, int64 [N]: the place of the unit's first example.

    The same texts (with second texts or choices) are one unit, the same group is, and so is what a chain of both
    connects.
    """
    alike = _first_of(split.hashes())
    if split.groups is None:
        return alike
    from scipy.sparse import coo_array  # a fifth of a second to import
    from scipy.sparse.csgraph import connected_components

    places = np.arange(len(split))
    grouped = _first_of(np.fromiter(map(hash, split.groups), dtype=np.int64, count=len(split)))
    edges = np.concatenate([places, places]), np.concatenate([alike, grouped])
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(len(split), len(split)))
    return _first_of(connected_components(graph, directed=False)[1])


def _first_of(values: np.ndarray) -> np.ndarray:
    """Of each value [N] the first place where it stands: the same whatever a process's hashes are."""
    _, first, number = np.unique(values, return_index=True, return_inverse=True)
    return first[number]


def selection_rows(
    strata: np.ndarray, units: np.ndarray, share: float, classes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and a stratified share of the units to select on; the same for every seed of a run.

    strata, units: [N]. Where strata are `classes`, each class keeps an example in training. Raises `UserError` if
    nothing would be held out.
    """
    firsts = np.unique(units)
    size = min(round(share * len(firsts)), len(firsts) - 1)
    rng = np.random.default_rng(HOLD_OUT_SEED)
    chosen = firsts[stratified_rows(strata[firsts], size, rng, left=int(classes))]
    held_out = _leaving_every_class(strata, units, np.isin(units, chosen)) if classes else np.isin(units, chosen)
    if not held_out.any():
        distinct = "" if len(firsts) == len(units) else f" ({len(firsts):,} different ones)"
        raise UserError(
            f"task.selection=held_out: of {len(units):,} training examples{distinct}, task.selection_share={share:g} "
            "leaves none to choose the epoch on. Give a larger share or more examples, or take another split: "
            "task.selection=validation."
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def fold_rows(
    strata: np.ndarray, units: np.ndarray, folds: int, fold: int, classes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and those of one fold of a stratified cross-validation; the same folds for every seed.

    strata, units: [N]. Each unit is in one fold; in all folds there are as many units of each stratum, give or take
    one. Where strata are `classes`, the single unit of a class is in none: it is always trained on. Raises `UserError`
    if there are fewer units than folds.
    """
    firsts = np.unique(units)
    values, counts = np.unique(strata[firsts], return_counts=True)
    dealt = [value for value, count in zip(values, counts, strict=True) if count > 1 or not classes]
    rng = np.random.default_rng(HOLD_OUT_SEED)
    order = [rng.permutation(firsts[strata[firsts] == value]) for value in dealt]
    dealt_units = np.concatenate([*order, np.zeros(0, dtype=np.int64)])
    if len(dealt_units) < folds:
        raise UserError(
            f"task.folds={folds}: only {counted(len(dealt_units), 'example')} can be dealt out. Take fewer folds."
        )
    held_out = np.isin(units, dealt_units[fold::folds])
    if classes:
        held_out = _leaving_every_class(strata, units, held_out)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _leaving_every_class(strata: np.ndarray, units: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """The rows held out, bool [N], without units that hold all examples of a class: one unit may hold several classes."""
    lost = np.setdiff1d(strata, strata[~held_out])
    return held_out & ~np.isin(units, units[np.isin(strata, lost)])
