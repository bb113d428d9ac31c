"""CSV, TSV and TXT: cells are strings as the file has them; a row that cannot be cut into its fields is refused."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.data_files import format_of
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks.readers.base import Read, Reading, Rows, rows_without_columns
from selfdistill_cli.tasks.readers.dialects import QUOTE, SHOWN, Dialect, dialect_of, differs, well_quoted
from selfdistill_cli.tasks.readers.encodings import HEAD, open_lines

FIRST = 20
"""Lines by which a file's dialect is told."""
EXCELS_LINE = re.compile(r"sep=(.)\r?\n")
"""What Excel writes and reads above a header."""
DOUBLED = 'Inside of quotes a quote is written twice ("") and a backslash is a character'

Record = tuple[int, str, list[str]]
"""The line that a record begins in, counted from 1, the text of its lines, and its fields."""

csv.field_size_limit(2**31 - 1)  # 128 KiB otherwise: texts are longer


def read_delimited(path: Path, how: Reading) -> Read:
    """The wanted columns of a CSV, TSV or TXT file; blank lines are no rows where a row has several fields.

    Raises `UserError` with the line where a quote is not closed or stands inside of a field, or fields are missing.
    """
    with open_lines(path, how.encoding) as lines:
        above = EXCELS_LINE.match(lines.head) if how.delimiter is None else None
        head = lines.head[above.end() :] if above else lines.head
        dialect = Dialect(above[1], how.quoting != "none") if above else _dialect(path, head, how)
        if above:
            next(lines.stream)
        windows = head.lstrip("\r\n").partition("\n")[0].endswith("\r")
        records = _records(path, lines.stream, dialect, above is not None)
        names, records = _names(path, records, dialect, how)
        rows, seen = _rows(path, records, names, dialect, how, windows)
        notes = [*lines.notes, *differs(dialect, format_of(path), how), *seen]
    if how.header and how.columns and not any(map(how.wants, names)):
        notes.append("the first line as names; if it holds none: task.header=false")
    if not how.header:
        notes.append(f"no header: columns {', '.join(names[:9])}{', …' if len(names) > 9 else ''}")
    return Read(rows.table(), tuple(names), tuple(notes))


def _dialect(path: Path, head: str, how: Reading) -> Dialect:
    """The dialect of the file that begins with `head`."""
    found = re.split(r"\r?\n|\r", head)
    whole = len(head) < HEAD // 4  # characters of four bytes; else the last line may be cut off
    try:
        return dialect_of(
            format_of(path), [line for line in (found if whole else found[:-1] or found) if line][:FIRST], how
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _records(path: Path, lines: Iterator[str], dialect: Dialect, one_above: bool) -> Iterator[Record]:
    """Cut lines into records, numbered as in the file."""
    if dialect.delimiter is not None and dialect.quoted:
        yield from _quoted_records(path, lines, dialect.delimiter, int(one_above))
        return
    for number, line in enumerate(lines, start=1 + one_above):
        yield number, line, dialect.cut(line.removesuffix("\n").removesuffix("\r"))


def _quoted_records(path: Path, lines: Iterator[str], delimiter: str, above: int) -> Iterator[Record]:
    taken: list[str] = []

    def feed() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        number = above + reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise _misquoted(path, number, taken, str(error)) from None
        if fields is None:
            return
        text = taken[0] if len(taken) == 1 else "".join(taken)
        if QUOTE in text and not well_quoted(text, fields):
            raise _misquoted(path, number, taken, "inside")
        yield number, text, fields


def _names(path: Path, records: Iterator[Record], dialect: Dialect, how: Reading) -> tuple[list[str], Iterator[Record]]:
    """The names of the columns, and the records below them."""
    if dialect.delimiter is None:
        return ["text"], records
    first = next((record for record in records if record[2] not in ([], [""])), None)
    if first is None:
        raise UserError(f"{path} is empty.")
    if how.header:
        return first[2], records
    return [f"c{place}" for place in range(len(first[2]))], chain([first], records)


def _rows(
    path: Path, records: Iterator[Record], names: Sequence[str], dialect: Dialect, how: Reading, windows: bool
) -> tuple[Rows, list[str]]:
    """The rows, and what was seen in them that whoever wrote the file may not have meant."""
    wanted = [place for place, name in enumerate(names) if how.wants(name) and names.count(name) == 1]
    shown = [names[place] for place in wanted]

    def to_table(cells: list[tuple[str, ...]], _numbers: list[int]) -> pa.Table:
        columns = list(zip(*cells, strict=True)) or [()] * len(shown)
        arrays = [pa.array(column, pa.string()) for column in columns]
        return pa.table(arrays, names=shown) if shown else rows_without_columns(len(cells))

    rows = Rows(to_table)
    pick, width, kept_quotes, other_ends = _picker(wanted), len(names), 0, 0
    for number, text, fields in records:
        if len(fields) != width:
            if fields not in ([], [""]):
                raise _wrong_number(path, number, text, len(fields), names, dialect)
            if width > 1:
                continue
            fields = [""]
        row = pick(fields)
        if not dialect.quoted and QUOTE in text:
            kept_quotes += sum(len(cell) > 1 and cell[0] == cell[-1] == QUOTE for cell in row)
        if text.endswith("\r\n") != windows and text.endswith("\n"):
            other_ends += 1
        rows.add(row, number, len(text))
    seen = []
    if kept_quotes and how.quoting is None:
        seen.append(f"{kept_quotes} cells stand in quotes, which are kept; task.quoting=double takes them off")
    if other_ends:
        seen.append(
            f"lines end in two ways ({other_ends} not as the first; a carriage return there is no part of a cell)"
        )
    return rows, seen


def _picker(places: Sequence[int]) -> Callable[[list[str]], tuple[Any, ...]]:
    """What takes the fields of these places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda fields: tuple(fields[place] for place in places)


def _shown(text: str) -> str:
    line = text.strip().split("\n")[0]
    return repr(line if len(line) <= SHOWN else line[:SHOWN] + "…")


def _wrong_number(path: Path, number: int, text: str, found: int, names: Sequence[str], dialect: Dialect) -> UserError:
    if f"\\{dialect.delimiter}" in text or f"\\{QUOTE}" in text:
        way = f"A backslash escapes nothing here: a text with {dialect} in it stands in double quotes."
    elif dialect.quoted:
        way = f"A text with {dialect} or an end of line in it stands in double quotes."
    else:
        way = (
            f"No text can hold {dialect} or an end of line here, unless task.quoting=double reads quotes around cells."
        )
    shown = ", ".join(names[:9]) + (", …" if len(names) > 9 else "")
    return UserError(
        f"{path}, line {number} has {counted(found, 'field')}, the first line has {len(names)} ({shown}): "
        f"{_shown(text)}. {way} (Fields are cut at {dialect}; task.delimiter=<character> names another.)"
    )


def _misquoted(path: Path, number: int, taken: Sequence[str], problem: str) -> UserError:
    """What is wrong with the quotes of the record that these lines are the beginning of."""
    text = "".join(taken)
    last = number + len(taken) - 1
    until = f" (read up to line {last})" if last > number else ""
    if problem.startswith("unexpected end"):
        what = f"a quote is opened and never closed{until}"
    elif "after" in problem:
        what = f"text follows the quote that closes a field{until}"
    elif problem.startswith("new-line"):
        what = f"a carriage return stands inside of a field that is not in quotes{until}"
    elif problem == "inside":
        what = f"a quote stands inside of a field that does not begin with one{until}"
    else:
        what = f"{problem}{until}"
    way = (
        f"{DOUBLED}; no space stands between a delimiter and a quote."
        if problem != "inside" or "\\" in text
        else ('A field with a quote in it stands in quotes, and there a quote is written twice: "5"" pipe".')
    )
    return UserError(
        f"{path}, line {number}: {what}: {_shown(text)}. {way} "
        "If quotes are characters in this file: task.quoting=none."
    )
