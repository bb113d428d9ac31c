"""From the labels of a file to class numbers or floats, refusing what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.tasks.missing import values_or_none
from selfdistill_cli.tasks.numbers import is_missing, is_missing_number, parsed_number, written_list
from selfdistill_cli.tasks.templates import values

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit

MANY_FRACTIONS = 20
"""More distinct fractional numbers than these are no names of classes."""
MOST_CLASSES = 1000
FEW_CLASSES = 20
"""Up to so many classes, one may have as few examples as it likes before the column is taken for another one."""
SHOWN = 5
SHOWN_CLASSES = 20
WORDS_ALIKE = 0.6
"""More than of settings: labels are words of a language, and 'maybe' has half its letters in common with 'yes'."""
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


def infer_kind(labels: Iterable[Any]) -> str:
    """`regression` if the labels are numbers, typed or written, with more than 20 distinct fractional values.

    Missing labels decide nothing. One in ten distinct labels may be no number: it is refused later, with its row,
    where a class of its own would be a wrong result without a word.
    """
    distinct = {_key(label): label for label in labels if not is_missing_number(label)}
    numbers = [parsed_number(label) for label in distinct.values()]
    parsed = {number for number in numbers if number is not None}
    fractional = sum(number != int(number) for number in parsed)
    others = sum(number is None for number in numbers)
    return "regression" if fractional > MANY_FRACTIONS and others * 10 <= len(numbers) else "classification"


def label_values(task: DictConfig, raw: RawSplit) -> list[Any]:
    """The label of every row: of a column, or of a field inside one (`meta[label]`).

    Raises `UserError` where a label is not a single value.
    """
    found = values(task.label, raw)
    for row, value in enumerate(found):
        if isinstance(value, list | tuple | dict):
            raise UserError(f"{raw.at(row)}: {_not_single(task.label, value)}")
    return found


def distinct_labels(task: DictConfig, raw: RawSplit) -> list[Any]:
    """Each label that occurs, once, missing ones apart. Raises `UserError` where a label is not a single value."""
    found = raw.distinct(task.label) if task.label in raw.names else values_or_none(task.label, raw)
    if {} in found:  # there is no such field: say so, with its row
        values(task.label, raw)
    lists = [value for value in found if isinstance(value, list | dict) and value]
    if lists:
        raise UserError(f"{raw.origin}: {_not_single(task.label, lists[0])}")
    single = [value for value in found if not isinstance(value, list | dict) and not is_missing(value)]
    return list({_key(value): value for value in single}.values())


def have_commas(names: Sequence[str]) -> bool:
    """Whether most names of classes look like numbers with a decimal comma."""
    return sum(bool(DECIMAL_COMMA.fullmatch(name)) for name in names) > len(names) / 2


def label_name(value: Any) -> str:
    """How a label is written: as the file has it; of typed numbers, 3.0 and 3 are the same class."""
    number = parsed_number(value) if isinstance(value, float | Decimal) else None
    return str(int(value)) if number is not None and number.is_integer() else str(value)


def _key(value: Any) -> tuple[type, Any]:
    """To tell True from 1, which Python takes for the same key."""
    return type(value), value


def _not_single(label: str, value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"task.label='{label}[{key}]'" for key in list(value)[:SHOWN])
        return f"label {_short(value)} is a record. Name the field in it: {inside}."
    return (
        f"label {_short(value)} is a list, and an example has one label here (no multi-label tasks). "
        f"task.label='{label}[0]' takes the first of each; else make one row, or one column, of each label."
    )


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}…"


@dataclass(frozen=True)
class LabelCodec:
    """Knows the classes of a task, by number and by name; `names` is empty in regression."""

    kind: str
    names: list[str]
    configured: bool
    """The names come from the configuration, so class numbers are allowed beside them."""

    @classmethod
    def for_task(cls, task: DictConfig, kind: str, splits: Sequence[RawSplit]) -> LabelCodec:
        """The configured classes, else those of the training split in sorted order (numbers by size).

        `class_numbers` of false in the settings: their order is nobody's choice, so that numbers say nothing.
        """
        if kind == "regression":
            return cls(kind, [], configured=False)
        if task.labels:
            if len(task.labels) < 2:
                raise UserError(f"task.labels=[{task.labels[0]}] names one class; at least 2 are needed.")
            return cls(kind, list(task.labels), configured=task.get("class_numbers", True))
        found = distinct_labels(task, splits[0])
        endless = [label for label in found if isinstance(label, float) and parsed_number(label) is None]
        if endless:
            raise UserError(
                f"{splits[0].origin}, row {_first(task, splits[0], endless[0])}: label {endless[0]!r} is not a finite "
                "number. Correct the row or leave it out."
            )
        names = _in_order(found)
        _require_classes(task, splits[0], names)
        return cls(kind, names, configured=False)

    def encode(self, labels: Sequence[Any], at: Callable[[int], str]) -> np.ndarray:
        """Labels as numbers: int64 classes or float32 targets.

        `at` says where a row is. Raises `UserError` on labels that are neither, with their count and the first rows.
        """
        number_of = self._target if self.kind == "regression" else self._class_numbers()
        known: dict[Any, float | None] = {}
        encoded = np.empty(len(labels), dtype=np.float32 if self.kind == "regression" else np.int64)
        wrong = []
        for row, label in enumerate(labels):
            key = label if type(label) is str else _key(label)
            if key not in known:
                known[key] = number_of(label)
            number = known[key]
            if number is None:
                wrong.append(row)
            else:
                encoded[row] = number
        if wrong:
            self._refuse(labels, wrong, at)
        return encoded

    @staticmethod
    def _target(label: Any) -> float | None:
        return parsed_number(label)

    def _class_numbers(self) -> Callable[[Any], int | None]:
        """What gives the number of a class by its name, or by its number where the names are configured."""
        numbers = {name: number for number, name in enumerate(self.names)}
        by_value = {parsed_number(name): number for name, number in numbers.items()}
        numeric = None not in by_value and len(by_value) == len(numbers)
        # Beside names that are numbers a class number would be ambiguous.
        by_number = self.configured and not self._named_like_numbers()

        def number_of(label: Any) -> int | None:
            name = label_name(label)
            if name in numbers:
                return numbers[name]
            if name.lower() in ("true", "false"):  # JSON writes them small, Python with a capital
                return numbers.get(name.capitalize(), numbers.get(name.lower()))
            value = parsed_number(label)
            if value is None:
                return None
            if by_number and value in range(len(self.names)):
                return int(value)
            return by_value[value] if numeric and value in by_value else None

        return number_of

    def _named_like_numbers(self) -> bool:
        return any(parsed_number(name) is not None for name in self.names)

    def _refuse(self, labels: Sequence[Any], wrong: list[int], at: Callable[[int], str]) -> None:
        """Raise a `UserError` about the labels in these rows."""
        row, label = wrong[0], labels[wrong[0]]
        more = f" and {len(wrong) - 1:,} more of {len(labels):,} rows" if len(wrong) > 1 else ""
        if self.kind == "regression":
            raise UserError(
                f"{at(row)}{more}: label {label!r} is not a finite number, as regression needs.{_regression_hint(label)}"
            )
        by_number = self.configured and not self._named_like_numbers()
        shown = [f"{name} ({i})" if by_number else name for i, name in enumerate(self.names[:SHOWN_CLASSES])]
        allowed = ", ".join(shown) + " …" * (len(self.names) > SHOWN_CLASSES)
        allowed += ", by name or number" if by_number else ""
        raise UserError(
            f"{at(row)}{more}: unknown label {label!r}.{did_you_mean(str(label), self.names, WORDS_ALIKE)} Allowed are {allowed}."
        )


def _regression_hint(label: Any) -> str:
    if isinstance(label, bool) or str(label).lower() in ("true", "false"):
        return " True and false are two classes: task.kind=classification."
    if re.fullmatch(r"\s*[+-]?[\d.]*,\d+\s*", str(label)):
        return " Write numbers with a point, and without marks between thousands."
    return " Correct the row, or leave it out (an empty cell counts as missing: task.missing=drop)."


def _in_order(found: list[Any]) -> list[str]:
    """Names of classes: numbers by size, others by alphabet; each once."""
    by_name = {label_name(label): parsed_number(label) for label in found}
    if all(number is not None for number in by_name.values()):
        return sorted(by_name, key=lambda name: (by_name[name], name))
    return sorted(by_name)


def _require_classes(task: DictConfig, raw: RawSplit, names: list[str]) -> None:
    """Raise `UserError` if these are hardly the classes of these rows."""
    where = f"{raw.origin}: column '{task.label}' holds"
    if len(names) < 2:
        raise UserError(f"{where} {len(names)} class(es); at least 2 are needed.")
    if all(written_list(name) is not None for name in names):
        raise UserError(
            f"{where} lists that are written as texts, such as {names[0]}, and an example has one label here "
            "(no multi-label tasks). Make one column of the label that is to be learned."
        )
    each = len(raw) / len(names)
    too_many = len(names) > MOST_CLASSES or (len(names) > FEW_CLASSES and each < 2 and task.kind is None)
    if too_many:
        examples = ", ".join(map(_short, names[:3]))
        numbers = all(parsed_number(name) is not None for name in names)
        comma = have_commas(names)
        ways = [
            "task.kind=regression if it is a number to be predicted" if numbers else "",
            "write its numbers with a point instead of a comma if they are to be predicted" if comma else "",
            "task.kind=classification if it is"
            if len(names) <= MOST_CLASSES
            else "task.labels=[…] with every name if it is",
        ]
        raise UserError(
            f"{where} {len(names):,} classes in {len(raw):,} rows ({examples} …), {each:.1f} examples each. "
            f"Is it the label? task.label=<column> names another; {'; '.join(way for way in ways if way)}."
        )


def _first(task: DictConfig, raw: RawSplit, value: Any) -> int:
    return int(raw.numbers[values(task.label, raw).index(value)])
