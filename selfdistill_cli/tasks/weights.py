"""How much each training example counts: a column of the data, a weight of its class, or both.

    w_i = column_i · weight of class y_i, scaled to mean 1 over the training split

The engine multiplies a method's loss of example i by w_i (docs/methods.md); scores are never weighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.system.words import listed
from selfdistill_cli.tasks.numbers import parsed_number
from selfdistill_cli.tasks.templates import values

if TYPE_CHECKING:
    from selfdistill_cli.tasks.data import TaskData
    from selfdistill_cli.tasks.sources import RawSplit

BALANCED = "balanced"
SHOWN = 3
"""Rows that a message names."""


def weight_column(task: DictConfig, raw: RawSplit) -> np.ndarray | None:
    """The weights of a training split's rows as they are written [N], float64; None of others, or without `task.weight`.

    Raises `UserError` on weights that are missing, no numbers, or negative.
    """
    if task.weight is None or raw.name not in ("train", task.train):
        return None
    given = values(task.weight, raw)
    found = [_number(value) for value in given]
    wrong = [row for row, weight in enumerate(found) if weight is None]
    if wrong:
        named = "; ".join(f"row {raw.numbers[row]}: {given[row]!r}" for row in wrong[:SHOWN])
        raise UserError(
            f"{raw.origin}, rows {raw.first_row} to {raw.first_row + len(raw) - 1}: {len(wrong):,} of {len(found):,} "
            f"weights in task.weight={task.weight} are no numbers of 0 or more ({named}{' …' if len(wrong) > SHOWN else ''}). Correct them: 0 leaves an example out of training."
        )
    return np.array(found, dtype=np.float64)


def _number(value: Any) -> float | None:
    """A weight out of a number or a text such as `0.3`; None if it is none."""
    number = parsed_number(value)
    return number if number is not None and number >= 0 else None


def training_weights(task: TaskData) -> np.ndarray | None:
    """w_i of every training example [N], float32 of mean 1; None if the settings name no weights.

    Raises `UserError` if all are 0.
    """
    by_row, asked = task.train.weights, task.settings.class_weights
    if by_row is None and asked is None:
        return None
    weights = np.ones(len(task.train)) if by_row is None else by_row
    if asked is not None:
        weights = weights * by_class(asked, task.label_names, task.train.labels)[task.train.labels]
    if not weights.any():
        raise UserError(f"{task.name}: every training example has weight 0, so there is nothing to learn from.")
    return (weights * (len(weights) / weights.sum())).astype(np.float32)


def by_class(asked: Any, names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """The weight of each class [C]: N / (C · n_c) if `balanced`, else as named, and 1 of a class that is not.

    labels: of the training split [N]; a class without an example there gets 0. Raises `UserError` if it can be neither.
    """
    if asked == BALANCED:
        counts = np.bincount(labels, minlength=len(names))
        return np.divide(len(labels), len(names) * counts, out=np.zeros(len(names)), where=counts > 0)
    if not isinstance(asked, Mapping) or not asked:
        raise UserError(
            f"task.class_weights={asked}: allowed are {BALANCED}, or weights by name: "
            f"'task.class_weights={{{', '.join(f'{name}: 1' for name in names[:2])}}}'."
        )
    weights = np.ones(len(names))
    for name, value in asked.items():
        weight, meant = _number(value), _classes_named(name, names)
        if not meant:
            raise UserError(
                f"task.class_weights: there is no class '{name}'.{did_you_mean(str(name), names)} "
                f"The classes are {', '.join(names[:20])}."
            )
        if len(meant) > 1:
            raise UserError(
                f"task.class_weights: {name} may be {listed([names[n] for n in meant], 'or')}. Give each example its weight "
                "instead: task.weight=<column>."
            )
        if weight is None:
            raise UserError(f"task.class_weights: {name}: {value} is no number of 0 or more.")
        weights[meant[0]] = weight
    return weights


def _classes_named(name: Any, names: Sequence[str]) -> list[int]:
    """The classes that the key of a mapping may mean, out of which a command line has made a truth value or a number."""
    if isinstance(name, (bool, float)) or str(name) not in names:
        wanted = float(name) if type(name) in (int, float) else str(name).lower() if isinstance(name, bool) else None
        return [n for n, one in enumerate(names) if wanted is not None and wanted in (one.lower(), parsed_number(one))]
    return [list(names).index(str(name))]


def described(weights: np.ndarray | None) -> dict[str, Any] | None:
    """What results.json says of the weights: their range, how many are 0, and (Σw)² / Σw², the effective sample size."""
    if weights is None:
        return None
    wide = weights.astype(np.float64)
    return {
        "smallest": float(wide.min()),
        "largest": float(wide.max()),
        "zero": int((wide == 0).sum()),
        "effective_sample_size": float(wide.sum() ** 2 / (wide**2).sum()),
    }
