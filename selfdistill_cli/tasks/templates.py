"""Texts from rows: a column, a field of one (answers[text]), or a template over them ("{question} {answers[text][0]}")."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Any

from selfdistill_cli.errors import UserError

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit


def template_columns(template: str) -> list[str]:
    """The columns that a text setting reads."""
    fields = (
        [template] if "{" not in template else [name for _, name, _, _ in string.Formatter().parse(template) if name]
    )
    return [_steps(field)[0] for field in fields]


def render(template: str, raw: RawSplit) -> list[str]:
    """The text of every row. A list is joined with spaces. Raises `UserError` where there is nothing to show."""
    if "{" not in template:
        return _texts(template, raw)
    pieces: list[list[str]] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        pieces.append([literal] * len(raw))
        if field:
            pieces.append(_texts(field, raw))
    return ["".join(parts) for parts in zip(*pieces, strict=True)]


def values(field: str, raw: RawSplit) -> list[Any]:
    """The value of a column, or of a field inside one, in every row."""
    column, *keys = _steps(field)
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


def _steps(field: str) -> list[str]:
    return re.findall(r"[^\[\]]+", field) or [field]


def _inside(value: Any, keys: list[str], field: str, row: int, raw: RawSplit) -> Any:
    for key in keys:
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UserError(f"{raw.at(row)}: there is no '{field}' in it.") from None
    return value


def _texts(field: str, raw: RawSplit) -> list[str]:
    return [_text(value, field, row, raw) for row, value in enumerate(values(field, raw))]


def _text(value: Any, field: str, row: int, raw: RawSplit) -> str:
    if value is None:
        raise UserError(f"{raw.at(row)}: column '{field}' is empty.")
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else str(value)
