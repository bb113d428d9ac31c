"""Texts from rows: a column, a field of one (answers[text]), or a template over them ("{question} {answers[text][0]}")."""

from __future__ import annotations

import re
import string
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from selfdistill_cli.errors import UserError

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit

FIELD = re.compile(r"[^\[\]]+(\[[^\[\]]+\])*")
"""A column, and the keys or numbers that lead to a value inside it."""


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
        parts: list[Any] = []
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
                texts.append(self.format_field(shown, piece.spec or ""))
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


def render(setting: str, raw: RawSplit) -> list[str]:
    """The text of every row. A list is joined with spaces. Raises `UserError` where there is nothing to show."""
    return Template(setting).render(raw) if "{" in setting else _texts(setting, raw)


def values(field: str, raw: RawSplit) -> list[Any]:
    """The value of a column, or of a field inside one, in every row."""
    column, *keys = re.findall(r"[^\[\]]+", field) or [field]
    if not keys:
        return raw.column(column)
    return [_inside(value, keys, field, row, raw) for row, value in enumerate(raw.column(column))]


def lists(setting: str, raw: RawSplit) -> list[list[str]]:
    """Several texts a row: a column of lists; a column of single values or a template gives lists of one."""
    if "{" in setting:
        return [[text] for text in render(setting, raw)]
    found = [value if isinstance(value, list) else [value] for value in values(setting, raw)]
    for row, texts in enumerate(found):
        if not texts:
            raise UserError(f"{raw.at(row)}: '{setting}' is an empty list.")
    return [[_text(text, setting, row, raw) for text in texts] for row, texts in enumerate(found)]


def _inside(value: Any, keys: list[str], field: str, row: int, raw: RawSplit) -> Any:
    for key in keys:
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
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else str(value)


def _empty(field: str, row: int, raw: RawSplit) -> UserError:
    return UserError(f"{raw.at(row)}: column '{field}' is empty.")
