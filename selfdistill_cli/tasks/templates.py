"""Texts from rows: a column, a field of one (answers[text]), or a template over them ("{question} {answers[text][0]}")."""

from __future__ import annotations

import contextlib
import re
import string
from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.numbers import written_list

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit

FIELD = re.compile(r"[^\[\]]+(\[[^\[\]]+\])*")
"""A column, and the keys or numbers that lead to a value inside it."""


NUMBER_FORMATS = tuple("bcdeEfFgGnoxX%")
"""Last letters of formats that are for numbers."""


class _Piece(NamedTuple):
    """What a template says up to the end of one pair of braces."""

    literal: str
    field: str | None
    """None: the template ends with the literal."""
    spec: str | None
    conversion: str | None

    def written(self) -> str:
        """The braces, as they stand in the template."""
        conversion = f"!{self.conversion}" if self.conversion else ""
        return f"{{{self.field}{conversion}{f':{self.spec}' if self.spec else ''}}}"


class Template(string.Formatter):
    """A text with columns in braces, as in `str.format`; parsed once, and rendered column by column.

    Formats, conversions and doubled braces mean what they mean there: "{price:.2f}", "{word!r}", "{{". A dot is part
    of a column's name: attributes of values cannot be reached. Raises `UserError` if it cannot be read.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        try:
            self.pieces = [_Piece(*parts) for parts in self.parse(template)]
        except ValueError as error:
            raise self._unreadable(str(error)) from None
        for piece in self.pieces:
            if piece.field is not None:
                self._require_clear(piece.field, piece)

    def render(self, raw: RawSplit) -> list[str]:
        """The text of every row. Raises `UserError` where there is nothing to show, or a format does not fit."""
        parts: list[Any] = [repeat("", len(raw))]  # of an empty template as well
        for piece in self.pieces:
            if piece.literal:
                parts.append(repeat(piece.literal, len(raw)))
            if piece.field is not None:
                parts.append(self._formatted(piece.field, piece, raw))
        return list(map("".join, zip(*parts, strict=True)))

    def _formatted(self, field: str, piece: _Piece, raw: RawSplit) -> list[str]:
        if not (piece.conversion or piece.spec):
            return _texts(field, raw)
        texts = []
        for row, value in enumerate(values(field, raw)):
            if value is None:
                raise _empty(field, row, raw)
            plain = isinstance(value, list) and not piece.conversion
            try:
                shown = _text(value, field, row, raw) if plain else self.convert_field(value, piece.conversion)
                texts.append(_formatted(shown, piece.spec or ""))
            except (ValueError, TypeError) as error:
                raise UserError(f"{raw.at(row)}: {value!r} cannot be written as {piece.written()}: {error}.") from None
        return texts

    def _require_clear(self, field: str, piece: _Piece) -> None:
        if not field:
            raise self._unreadable("a pair of braces names no column")
        if not FIELD.fullmatch(field):
            raise self._unreadable(f"'{field}' is no column, nor a field inside one such as answers[text][0]")
        if piece.conversion not in (None, "r", "s", "a"):
            raise self._unreadable(f"there is no conversion '!{piece.conversion}'; there are !r, !s, !a")
        if "{" in (piece.spec or ""):
            raise self._unreadable(f"'{field}' has braces inside a format")

    def _unreadable(self, problem: str) -> UserError:
        return UserError(
            f"The template {self.template!r} cannot be read: {problem}. "
            "Type a column as {column}, and braces that are meant as such as {{ and }}."
        )


TEXT_SETTINGS = ("text", "text_pair", "group", "answer", "references", "messages", "choices", "label", "weight")
"""Settings of a task that name columns, or templates over them."""


def columns_of(task: DictConfig) -> frozenset[str]:
    """The columns that a task's settings use; only these are read. Raises `UserError` if a template is unreadable."""
    found: set[str] = set()
    for name in TEXT_SETTINGS:
        setting = None if OmegaConf.is_missing(task, name) else task.get(name)
        if setting is None:
            continue
        fields = [setting]
        if "{" in setting:
            fields += [piece.field for piece in Template(setting).pieces if piece.field is not None]
        found.update(fields, (parts_of(field)[0] for field in fields))
    return frozenset(found)


def fields_inside(columns: Iterable[str]) -> dict[str, frozenset[str]]:
    """By column, the keys with which the fields inside it begin that are among `columns` (as `columns_of` gives them)."""
    found: dict[str, set[str]] = {}
    for column, key, *_ in (parts for parts in map(parts_of, columns) if len(parts) > 1):
        found.setdefault(column, set()).add(key)
    return {column: frozenset(keys) for column, keys in found.items()}


def render(setting: str, raw: RawSplit) -> list[str]:
    """The text of every row. A list is joined with spaces. Raises `UserError` where there is nothing to show."""
    return Template(setting).render(raw) if is_template(setting, raw) else _texts(setting, raw)


def values(field: str, raw: RawSplit) -> list[Any]:
    """The value of a column, or of a field inside one, in every row."""
    column, *keys = [field] if field in raw.names else parts_of(field)
    found: list[Any] = raw.arrow(column).to_pylist()
    return [_inside(value, keys, field, row, raw) for row, value in enumerate(found)] if keys else found


def lists(setting: str, raw: RawSplit) -> list[list[str]]:
    """Several texts a row: a column of lists, or a list of templates that is written as one (`["{a}", "{b}"]`).

    A column of single values or another template gives lists of one.
    """
    if is_template(setting, raw):
        several = written_list(setting) or [setting]  # read before it is filled in: a value may hold quotes
        return [list(texts) for texts in zip(*(Template(one).render(raw) for one in several), strict=True)]
    found = [value if isinstance(value, list) else [value] for value in values(setting, raw)]
    for row, texts in enumerate(found):
        if not texts:
            raise UserError(f"{raw.at(row)}: '{setting}' is an empty list.")
    return [[_text(text, setting, row, raw) for text in texts] for row, texts in enumerate(found)]


def _formatted(value: Any, spec: str) -> str:
    """`format`; a number that a text file has written as a text is formatted as a number where the spec asks for it."""
    if isinstance(value, str) and spec[-1:] in NUMBER_FORMATS:
        with contextlib.suppress(ValueError):
            return format(int(value) if value.strip().lstrip("+-").isdigit() else float(value), spec)
    return format(value, spec)


def is_template(setting: str, raw: RawSplit) -> bool:
    """Whether a setting is a template over columns and not a column whose name has a brace."""
    return "{" in setting and setting not in raw.names


def parts_of(field: str) -> list[str]:
    """A column, and the keys or numbers that lead to a value inside it."""
    return re.findall(r"[^\[\]]+", field) or [field]


def _inside(value: Any, keys: list[str], field: str, row: int, raw: RawSplit) -> Any:
    for key in keys:
        if value is None:  # a field that the row leaves empty is as empty as a column
            return None
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UserError(f"{raw.at(row)}: there is no '{field}' in it.") from None
    return value


def _texts(field: str, raw: RawSplit) -> list[str]:
    found = values(field, raw)
    if set(map(type, found)) <= {str}:  # a million rows: not one by one where there is nothing to do
        return found
    return [_text(value, field, row, raw) for row, value in enumerate(found)]


def _text(value: Any, field: str, row: int, raw: RawSplit) -> str:
    if value is None:
        raise _empty(field, row, raw)
    if isinstance(value, str):
        return value
    inside = value if isinstance(value, list) else [value]
    for number, one in enumerate(inside):
        if isinstance(one, dict):
            raise _no_text(f"{field}[{number}]" if isinstance(value, list) else field, field, one, raw.at(row))
        if isinstance(one, list):
            raise UserError(f"{raw.at(row)}: '{field}' holds lists of lists, not text.")
        if one is None:
            raise UserError(f"{raw.at(row)}: the list in '{field}' has an empty place.")
    return " ".join(map(str, inside))


def _no_text(path: str, field: str, record: dict[str, Any], where: str) -> UserError:
    usual = next((name for name in ("content", "text", "value") if name in record), next(iter(record), "…"))
    if {"role", "content"} <= set(record):
        return UserError(f"{where}: '{field}' holds conversations: task=chat task.messages={field} learns them.")
    return UserError(
        f"{where}: '{field}' holds records ({', '.join(record)}), not text. "
        f"Name what is meant in it: '{{{path}[{usual}]}}'."
    )


def _empty(field: str, row: int, raw: RawSplit) -> UserError:
    return UserError(f"{raw.at(row)}: column '{field}' is empty.")
