"""JSON, an array of records or one a line: values are strings as they are written, lists and records keep their shape."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfdistill_cli.errors import UserError, first_line
from selfdistill_cli.system.data_files import format_of
from selfdistill_cli.tasks.readers.base import Read, Reading, Rows, rows_without_columns
from selfdistill_cli.tasks.readers.encodings import open_lines

Record = tuple[int, "dict[str, Any]", int]
"""The number of a record's line (in an array, its own from 1), what it holds, and how many characters it has."""
SHAPES: dict[type, str] = {str: "text", list: "a list", dict: "a record"}
BLANK = "\ufeff \t\r\n"


class _Twice(dict[str, Any]):
    """An object of JSON that has a name more than once."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked, names = _Twice(found), [name for name, _ in pairs]
    marked.names = tuple(name for name in found if names.count(name) > 1)
    return marked


def _constant(word: str) -> str | None:
    return None if word == "NaN" else word  # pandas writes NaN where there is nothing


DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=_constant, strict=False
)


def read_records(path: Path, how: Reading) -> Read:
    """The wanted fields of records: one a line, or an array, whatever the ending; a field that is not there is null.

    In a .json file an object that holds one array of records is that array. Raises `UserError` with the line that is
    no record, or in which a field has another shape than above.
    """
    with open_lines(path, how.encoding) as lines:
        notes = list(lines.notes)
        if lines.head.lstrip(BLANK).startswith("["):
            records = _of_array(path, _decoded(path, lines.stream.read()))
            unit = "record"
        elif format_of(path) == "json" and not _holds_lines(lines.head):
            records, unit, note = _of_object(path, lines.stream.read())
            notes += note
        else:
            records, unit = _of_lines(path, lines.stream), "line"
        rows = _Columns(f"{path}, {unit}", how)
        table = rows.read(records)
    return Read(table, tuple(rows.names), tuple(notes))


def _holds_lines(head: str) -> bool:
    """Whether the first line is a record, and another one follows."""
    first, _, rest = head.strip(BLANK).partition("\n")
    try:
        return isinstance(DECODER.decode(first), dict) and bool(rest)
    except ValueError:
        return False


def _of_lines(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        if line.isspace() or not line:
            continue
        try:
            record = DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise _broken(path, number, line, error) from None
        if not isinstance(record, dict):
            raise UserError(f'{path}, line {number} is no record: {_shown(line)}. A line reads {{"text": "…", …}}.')
        yield number, record, len(line)


def _decoded(path: Path, text: str) -> Any:
    try:
        return DECODER.decode(text.strip(BLANK))
    except json.JSONDecodeError as error:
        number = error.lineno + text[: len(text) - len(text.lstrip(BLANK))].count("\n")
        raise UserError(f"{path}, line {number}: this is no JSON: {error.msg} (character {error.colno}).") from None
    except RecursionError:
        raise UserError(f"{path}: its lists and records are nested too deeply.") from None


def _of_array(path: Path, content: list[Any]) -> Iterator[Record]:
    for number, record in enumerate(content, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {number} of its array is none: {_shown(json.dumps(record))}.")
        yield number, record, 1000  # its characters were read before; this bounds how many become a table together


def _of_object(path: Path, text: str) -> tuple[Iterator[Record], str, list[str]]:
    """What a .json file holds that begins with an object: one array of records, or a record."""
    try:
        content = DECODER.decode(text.strip(BLANK))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # its first line is longer than what was looked at
            return _of_lines(path, text.split("\n")), "line", []
        content = _decoded(path, text)
    lists = [name for name, value in content.items() if isinstance(value, list) and value]
    arrays = [name for name in lists if all(isinstance(one, dict) for one in content[name])]
    if len(arrays) == 1:
        return _of_array(path, content[arrays[0]]), "record", [f"the records of '{arrays[0]}'"]
    if lists or (content and all(isinstance(value, dict) for value in content.values())):
        raise UserError(
            f"{path} holds one object ({', '.join(list(content)[:9])}), not records. Write it as an array of records "
            '[{"text": …}, …], or one record a line (pandas: to_json(path, orient="records", lines=True)).'
        )
    return _of_array(path, [content]), "record", []


class _Columns:
    """Records become columns; what is no field of every record is null in the others."""

    def __init__(self, where: str, how: Reading) -> None:
        self.where = where
        self.how = how
        self.names: dict[str, None] = {}
        self.shapes: dict[str, tuple[type, int]] = {}
        """Of each column, the shape of its first value, and in which line that is."""

    def read(self, records: Iterable[Record]) -> pa.Table:
        rows = Rows(self._table)
        for number, record, size in records:
            if not record.keys() <= self.names.keys():
                self.names |= dict.fromkeys(record)
            if isinstance(record, _Twice):
                self._refuse_twice(record.names, number, self.how.columns)
            rows.add(record, number, size)
        try:
            return rows.table()
        except pa.ArrowException as error:
            raise UserError(f"{self.where.rpartition(',')[0]}: {first_line(error)}") from error

    def _table(self, records: list[dict[str, Any]], numbers: list[int]) -> pa.Table:
        wanted = [name for name in self.names if self.how.wants(name)]
        if not wanted:
            return rows_without_columns(len(records))
        return pa.table({name: self._column(name, [row.get(name) for row in records], numbers) for name in wanted})

    def _column(self, name: str, values: list[Any], numbers: list[int]) -> pa.Array:
        if name in self.how.as_json:
            plain = [self._plain(value, number) for value, number in zip(values, numbers, strict=True)]
            return pa.array([None if value is None else json.dumps(value) for value in plain], pa.string())
        if not set(map(type, values)) <= {str, type(None)}:
            values = [self._plain(value, number) for value, number in zip(values, numbers, strict=True)]
        fields = self.how.inside.get(name)
        if fields:  # others may have any shape, in each row another
            values = [_only(value, fields) for value in values]
        firsts = {shape: list(map(type, values)).index(shape) for shape in set(map(type, values)) - {type(None)}}
        for shape, place in sorted(firsts.items(), key=lambda found: found[1]):
            self._require_shape(name, shape, numbers[place])
        try:
            if name not in self.shapes:  # no value yet
                return pa.nulls(len(values))
            return pa.array(values, pa.string() if self.shapes[name][0] is str else None)
        except UnicodeEncodeError:
            number = next(n for value, n in zip(values, numbers, strict=True) if not _encodable(value))
            raise UserError(f"{self.where} {number}: '{name}' holds half of a character (a lone surrogate).") from None
        except pa.ArrowException as error:
            raise UserError(
                f"{self.where}s {numbers[0]} to {numbers[-1]}: what is inside of '{name}' has not one shape in all of "
                f"them ({first_line(error)})."
            ) from error

    def _plain(self, value: Any, number: int) -> Any:
        """The same with booleans as they are written."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list):
            return [self._plain(one, number) for one in value]
        if isinstance(value, _Twice):
            self._refuse_twice(value.names, number, None)
        if isinstance(value, dict):
            return {name: self._plain(one, number) for name, one in value.items()}
        return value

    def _require_shape(self, name: str, shape: type, number: int) -> None:
        first, before = self.shapes.setdefault(name, (shape, number))
        if shape is not first:
            unit = self.where.rpartition(" ")[2]
            raise UserError(
                f"{self.where} {number}: '{name}' is {SHAPES[shape]}, and {SHAPES[first]} in {unit} {before}. "
                "A column holds values of one shape."
            )

    def _refuse_twice(self, names: Iterable[str], number: int, wanted: Any) -> None:
        for name in names:
            if wanted is None or name in wanted:
                raise UserError(f"{self.where} {number}: '{name}' stands in it twice: remove one of the two.")


def _only(value: Any, fields: Collection[str]) -> Any:
    return {name: one for name, one in value.items() if name in fields} if isinstance(value, dict) else value


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _broken(path: Path, number: int, line: str, error: Exception) -> UserError:
    where = f"{path}, line {number}"
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated"):
            return UserError(
                f"{where} is cut off: {_shown('…' + line.rstrip()[-40:])} is its end. Remove or complete it; a record "
                "stands on one line."
            )
        if error.msg == "Extra data":
            return UserError(f"{where}: more follows the record at character {error.pos + 1}; a line holds one record.")
        quotes = " JSON has double quotes around names and texts, as json.dumps writes them." * ("'" in line)
        return UserError(f"{where} is no JSON: {error.msg} at character {error.pos + 1}: {_shown(line)}.{quotes}")
    return UserError(f"{where} is nested too deeply.")
