"""What is asked of a reader, and what it gives."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfdistill_cli.errors import UserError, first_line
from selfdistill_cli.system.data_files import format_of

ROWS_AT_ONCE = 2**14
CHARACTERS_AT_ONCE = 2**25
"""Rows of a text file that are held as Python objects together, and how long they may be."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in the reading of a file into a `UserError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        name = format_of(path) + (".gz" if path.suffix.lower() == ".gz" else "")
        raise UserError(f"{path} cannot be read as {name}: {first_line(error)}") from error


@dataclass(frozen=True)
class Reading:
    """How files are read: the settings of the task, and what of them is asked for."""

    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True
    quoting: str | None = None
    kind: str | None = None
    """The kind of task, where it is configured."""
    label_columns: Collection[str] = ()
    """Where the task's labels stand, if a file has such columns."""
    labels: tuple[str, ...] | None = None
    """The class names that are configured; a file's own names are taken if they are among these, or if this is None."""
    columns: Collection[str] | None = None
    """The ones that are read, where there are such; None: all."""

    inside: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By column of records: the names of the fields that are asked for inside of it; of other columns everything is."""
    as_json: Collection[str] = ()
    """Columns of records whose values are kept as JSON: what is inside need not have one shape in all rows."""

    def wants(self, name: str) -> bool:
        """Whether this column is read."""
        return self.columns is None or name in self.columns


@dataclass(frozen=True)
class Read:
    """The columns of a file that were asked for, and what was seen on the way."""

    table: pa.Table
    columns: tuple[str, ...]
    """The names of all that the file has, those that were not read as well."""
    notes: tuple[str, ...] = ()
    """What was recognised and is not what the format usually is, in words: `delimiter ';'`."""


@dataclass
class Rows:
    """Rows of a text file, some at a time, become a table."""

    to_table: Callable[[list[Any], list[int]], pa.Table]
    """Makes a table of some rows, given the numbers of the lines that they begin in."""
    tables: list[pa.Table] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, row: Any, number: int, size: int) -> None:
        """One more row: its values, the line of the file that it begins in, and about how many characters it has."""
        self.rows.append(row)
        self.numbers.append(number)
        self.size += size
        if len(self.rows) >= ROWS_AT_ONCE or self.size >= CHARACTERS_AT_ONCE:
            self._flush()

    def table(self) -> pa.Table:
        """All of them; a column that only some have is null in the others."""
        if self.rows or not self.tables:
            self._flush()
        return pa.concat_tables(self.tables, promote_options="permissive")

    def _flush(self) -> None:
        self.tables.append(self.to_table(self.rows, self.numbers))
        self.rows, self.numbers, self.size = [], [], 0


def rows_without_columns(rows: int) -> pa.Table:
    """Rows of which nothing was asked for: their number alone."""
    return pa.table({"": pa.nulls(rows)}).select([])
