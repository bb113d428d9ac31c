"""Rows in which something that their task uses is missing: null, NaN or blank, in every format alike.

complete(task, "classification", [train, validation])  # refuses them, or leaves them out (task.missing)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import named_rows
from selfdistill_cli.tasks.chats import unanswered
from selfdistill_cli.tasks.numbers import is_missing, is_missing_number
from selfdistill_cli.tasks.templates import Template, is_template, parts_of, values

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit

USED = {
    "classification": ("label", "text", "text_pair", "group"),
    "regression": ("label", "text", "text_pair", "group"),
    "generation": ("text", "answer", "references", "messages"),
    "multiple_choice": ("label", "text", "choices", "group"),
}
"""By kind, the settings that name what an example is made of."""
MARKED = "label marked"
"""Of a label that is not empty and says that there is none (`NO_LABEL`)."""
WORDS = {
    "text_pair": "second text",
    "references": "acceptable answer",
    "messages": "answered conversation",
    MARKED: "label (-1)",
}
TEXTS = ("text", "text_pair")
NO_LABEL = ("-1", "-1.0")
"""How the Hub's data sets mark a row without a label, where classes have numbers."""


@dataclass(frozen=True)
class LeftOut:
    """How many rows of a split were left out, and what they lacked."""

    rows: int
    lacked: dict[str, int]
    """Rows by what they lack, in words; a row may lack several things."""

    def __str__(self) -> str:
        return ", ".join(f"{count:,} without {what}" for what, count in self.lacked.items())


def complete(task: DictConfig, kind: str, splits: Sequence[RawSplit]) -> tuple[list[RawSplit], list[LeftOut]]:
    """The splits without rows that lack something the task uses, and how many those were.

    Raises `UserError` if there are any, unless `task.missing` says otherwise: `drop` leaves them out, `keep` takes
    blank texts as they are (never labels and answers).
    """
    kept, left_out, refused = [], [], []
    for raw in splits:
        if task.missing == "keep":
            raw = with_blanks(task, raw)
        lacking = _lacking(task, kind, raw)
        if lacking and task.missing != "drop":
            refused += [(name, _in_words(task, kind, name, rows, raw)) for name, rows in lacking.items()]
            continue
        some = np.any([*lacking.values(), np.zeros(len(raw), dtype=bool)], axis=0)
        if lacking and some.all():
            raise UserError(f"{raw.origin}: every row lacks something that the task uses, so none is left.")
        left_out.append(LeftOut(int(some.sum()), {_what(name): int(rows.sum()) for name, rows in lacking.items()}))
        kept.append(raw.filtered(~some) if lacking else raw)
    if refused:
        texts = all(name in TEXTS for name, _ in refused)
        keep = " (task.missing=keep takes blank texts as they are)" if texts else ""
        words = "\n".join(sentence for _, sentence in refused)
        if MARKED in dict(refused):
            words += '\nIf -1 is a class of its own, task.labels are the numbers as the file has them: ["-1","0","1"].'
        raise UserError(f"{words}\nCorrect these rows, or leave them out with task.missing=drop{keep}.")
    return kept, left_out


def missing_in(setting: str, raw: RawSplit, missing: Callable[[Any], bool] = is_missing) -> np.ndarray:
    """Rows in which a column, or any column of a template, is missing: bool [N]. `missing` judges single values."""
    found = [_field_missing(field, raw, missing) for field in _fields(setting, raw)]
    return np.any([np.zeros(len(raw), dtype=bool), *found], axis=0)


def without_answer(task: DictConfig, raw: RawSplit) -> np.ndarray:
    """Rows that have no acceptable answer where the task says what is right then (`task.no_answer`): bool [N]."""
    if task.no_answer is None:
        return np.zeros(len(raw), dtype=bool)
    return missing_in(task.references or task.answer, raw)


def values_or_none(field: str, raw: RawSplit) -> list[Any]:
    """The value of a field inside a column (`tags[0]`) in every row, None where the row has none."""
    column, *keys = parts_of(field)
    return [_inside(value, keys) for value in raw.arrow(column).to_pylist()]


def with_blanks(task: DictConfig, raw: RawSplit) -> RawSplit:
    """Null as the empty text, in the columns that texts are made of."""
    table = raw.table
    for column in {field for name in TEXTS if task[name] is not None for field in _fields(task[name], raw)}:
        if raw.names.count(column) == 1:
            values = table.column(column)
            if pa.types.is_null(values.type):
                values = values.cast(pa.string())
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                filled = pc.fill_null(values, "")
                table = table.set_column(table.column_names.index(column), column, filled)
    return replace(raw, table=table)


def _lacking(task: DictConfig, kind: str, raw: RawSplit) -> dict[str, np.ndarray]:
    """By setting, the rows that lack it, where there are any. Raises `UserError` if all rows lack one."""
    found: dict[str, np.ndarray] = {}
    for name in USED[kind]:
        if task[name] is None or (name in TEXTS and task.missing == "keep"):
            continue
        if name == "text" and task.messages:
            continue  # the same column
        if name == "references" and set(_fields(task[name], raw)) <= set(_fields(task.answer, raw)):
            continue  # the same columns: not said twice
        _require_column(task[name], f"task.{name}", raw)
        rows = _lacking_one(task, kind, name, raw)
        marked = rows & ~missing_in(task.label, raw) if name == "label" and kind == "classification" else rows & False
        found |= {what: some for what, some in ((name, rows & ~marked), (MARKED, marked)) if some.any()}
        if len(raw) and rows.all():
            carries = " (the split carries no labels)" if name == "label" else ""
            empty = f"{_how_empty(kind, MARKED)}," if marked.all() else _how_empty(kind, name)
            raise UserError(f"{raw.origin}: no row has {_a(name)}: {_where(task, name)} {empty} in all{carries}.")
    return found


def _require_column(setting: str, name: str, raw: RawSplit) -> None:
    """Raise `UserError`, with the setting that names it, if there is no such column."""
    if is_template(setting, raw):
        return
    try:
        raw.arrow(setting if setting in raw.names else parts_of(setting)[0])
    except UserError as error:
        raise UserError(f"{error} {name}=<column> names another.") from error


def _lacking_one(task: DictConfig, kind: str, name: str, raw: RawSplit) -> np.ndarray:
    if name == "messages":
        return np.array(list(map(unanswered, values(task.messages, raw))), dtype=bool)
    judge = partial(_is_no_label, task) if name == "label" and kind == "classification" else is_missing
    rows = missing_in(task[name], raw, is_missing_number if name == "label" and kind == "regression" else judge)
    return rows & ~without_answer(task, raw) if name in ("answer", "references") else rows


def _is_no_label(task: DictConfig, value: Any) -> bool:
    numbered = bool(task.labels) and "-1" not in task.labels
    return is_missing(value) or (numbered and not isinstance(value, bool) and str(value) in NO_LABEL)


def _fields(setting: str, raw: RawSplit) -> list[str]:
    if not is_template(setting, raw):
        return [setting]
    return list(dict.fromkeys(piece.field for piece in Template(setting).pieces if piece.field is not None))


def _field_missing(field: str, raw: RawSplit, missing: Callable[[Any], bool]) -> np.ndarray:
    column, *keys = parts_of(field)
    if field in raw.names:
        column, keys = field, []
    values = raw.arrow(column)
    if keys:
        found = [_one_missing(_inside(value, keys), missing) for value in values.to_pylist()]
    elif missing is is_missing and not pa.types.is_nested(values.type):
        return _blank(values)
    elif pa.types.is_nested(values.type):
        found = [_one_missing(value, missing) for value in values.to_pylist()]
    else:  # as few different values as labels have are judged once each
        which = {value: missing(value) for value in values.unique().to_pylist()}
        found = [value != value or which[value] for value in values.to_pylist()]
    return np.array(found, dtype=bool)


def _blank(values: pa.ChunkedArray) -> np.ndarray:
    """Which values are null, NaN or blank, without making Python objects of a million of them: bool [N]."""
    rows = pc.is_null(values, nan_is_null=True)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        blank = pc.or_(pc.equal(pc.binary_length(values), 0), pc.utf8_is_space(values))
        rows = pc.or_(rows, pc.fill_null(blank, False))
    return np.asarray(rows.to_numpy())


def _one_missing(value: Any, missing: Callable[[Any], bool]) -> bool:
    """Of a list: whether it is empty, or one of it is missing."""
    if isinstance(value, list):
        return not value or any(map(missing, value))
    return not isinstance(value, dict) and missing(value)


def _inside(value: Any, keys: list[str]) -> Any:
    """What the keys lead to; None where there is nothing, and something else where there are no such keys.

    Those are refused where the field is rendered: they are a mistake in the setting and not in a row.
    """
    for key in keys:
        if value is None:
            return None
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except IndexError:
            return None
        except (KeyError, ValueError, TypeError):
            return {}
    return value


# --- in words -------------------------------------------------------------------------------------


def _what(name: str) -> str:
    return WORDS.get(name, name)


def _a(name: str) -> str:
    return {
        "choices": "choices",
        "answer": "an answer",
        "references": "an acceptable answer",
        "messages": "an answered conversation",
    }.get(name, f"a {_what(name)}")


def _how_empty(kind: str, name: str) -> str:
    if name == MARKED:
        return "is -1, by which the Hub's data sets mark a row without a label"
    if name == "messages":
        return "has no turn of the assistant"
    return "is empty or NA" if kind == "regression" and name == "label" else "is empty"


def _where(task: DictConfig, name: str) -> str:
    name = "label" if name == MARKED else name
    return f"a column of task.{name}='{task[name]}'" if "{" in task[name] else f"column '{task[name]}'"


def _in_words(task: DictConfig, kind: str, name: str, rows: np.ndarray, raw: RawSplit) -> str:
    lacking = np.flatnonzero(rows)
    has = "have" if len(lacking) > 1 else "has"
    return (
        f"{raw.origin}, {named_rows(raw.numbers[lacking].tolist())} (counted from 0): "
        f"{_where(task, name)} {_how_empty(kind, name)}; {len(lacking):,} of {len(raw):,} rows {has} no {'label' if name == MARKED else _what(name)}."
    )
