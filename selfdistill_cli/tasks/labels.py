"""From the labels of a file to class numbers or floats, refusing what does not fit."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit


def infer_kind(values: Sequence[Any]) -> str:
    """`regression` if the labels are numbers with more than 20 distinct fractional values.

    What is no finite number is passed over here: `LabelCodec.encode` refuses it, and knows its row.
    """
    numbers = [number_of(value) for value in values]
    known = [number for number in numbers if number is not None]
    fractional = {number for number in known if math.isfinite(number) and number != int(number)}
    if len(known) < len(numbers):
        return "classification"
    return "regression" if len(fractional) > 20 else "classification"


def number_of(value: Any) -> float | None:
    """A number, also one that a text file has written; None of anything else."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = float(value)
            return number if math.isfinite(number) and "_" not in value else None
        return None
    return value if isinstance(value, (int, float)) else None


def label_name(value: Any) -> str:
    """How a label is written: 3.0 and 3 are the same class."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _no_number(value: Any) -> bool:
    """Whether a label is infinite or not a number (NaN): neither a class nor a target."""
    return isinstance(value, float) and not math.isfinite(value)


@dataclass(frozen=True)
class LabelCodec:
    """Knows the classes of a task, by number and by name; `names` is empty in regression."""

    kind: str
    names: list[str]
    configured: bool
    """The names come from the configuration, so class numbers are allowed beside them."""

    @classmethod
    def for_task(cls, task: DictConfig, kind: str, splits: Sequence[RawSplit]) -> LabelCodec:
        """The configured classes, else those of the training split in sorted order (numbers by size)."""
        if kind == "regression":
            return cls(kind, [], configured=False)
        if task.labels:
            return cls(kind, list(task.labels), configured=True)
        values = {value for value in splits[0].distinct(task.label) if value is not None and not _no_number(value)}
        if all(number_of(value) is not None for value in values):
            names = list(
                dict.fromkeys(label_name(value) for value in sorted(values, key=lambda v: (number_of(v), str(v))))
            )
        else:
            names = sorted(label_name(value) for value in values)
        if len(names) < 2:
            raise UserError(
                f"{splits[0].origin}: column '{task.label}' holds {len(names)} class(es); at least 2 are needed."
            )
        if len(names) > 1000:
            raise UserError(
                f"{splits[0].origin}: column '{task.label}' holds {len(names)} classes. "
                "Is it the label? (task.kind=regression if it is a number to be predicted.)"
            )
        return cls(kind, names, configured=False)

    def encode(self, values: Sequence[Any], at: Callable[[int], str]) -> np.ndarray:
        """Labels as numbers: int64 classes or float32 targets. Raises `UserError` on the first that is neither.

        `at` says where a row is.
        """
        if self.kind == "regression":
            return np.array([self._target(value, row, at) for row, value in enumerate(values)], dtype=np.float32)
        numbers = {name: number for number, name in enumerate(self.names)}
        if self.configured:  # a name that looks like a number is a name all the same
            numbers = {str(number): number for number in range(len(self.names))} | numbers
        encoded = np.empty(len(values), dtype=np.int64)
        for row, value in enumerate(values):
            number = numbers.get(label_name(value))
            if number is None:
                if _no_number(value):
                    raise UserError(
                        f"{at(row)}: label {value!r} is not a finite number. Correct the row or leave it out."
                    )
                allowed = ", ".join(
                    f"{i} {name}" if self.configured else name for i, name in enumerate(self.names[:20])
                )
                hint = " (the split carries no labels)" if value in (-1, "-1") else did_you_mean(str(value), self.names)
                raise UserError(f"{at(row)}: unknown label {value!r}{hint}. Allowed are {allowed}.")
            encoded[row] = number
        return encoded

    @staticmethod
    def _target(value: Any, row: int, at: Callable[[int], str]) -> float:
        try:
            target = float(value)
        except (TypeError, ValueError):
            target = math.nan
        if not math.isfinite(target):
            raise UserError(f"{at(row)}: label {value!r} is not a finite number, as regression needs.")
        return target
