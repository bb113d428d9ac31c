"""Files as one table, by their formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from selfdistill_cli.errors import UserError, first_line
from selfdistill_cli.system.data_files import format_of
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks.readers.base import Read, Reading, reading
from selfdistill_cli.tasks.readers.columnar import read_arrow, read_parquet
from selfdistill_cli.tasks.readers.delimited import read_delimited
from selfdistill_cli.tasks.readers.records import read_records

READERS = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "jsonl": read_records,
    "ndjson": read_records,
    "json": read_records,
    "csv": read_delimited,
    "tsv": read_delimited,
    "txt": read_delimited,
}
DELIMITED = ("csv", "tsv", "txt")


def read_table(paths: Sequence[Path], how: Reading) -> Read:
    """Read files that belong together, one below the other.

    Raises `UserError` with the file and, in a text, the line, if one is damaged, not what its ending says, in another
    encoding, or without a column that an earlier one has.
    """
    found = []
    for path in paths:
        with reading(path):
            found.append(READERS[format_of(path)](path, how))
    if len(found) == 1:
        return found[0]
    names = dict.fromkeys(name for one in found for name in one.columns)
    for path, one in zip(paths, found, strict=True):
        lacking = [name for name in names if name not in one.columns and how.wants(name)]
        if lacking and format_of(path) not in ("jsonl", "ndjson", "json"):  # a record may leave a field out
            raise UserError(f"{path} has no column '{lacking[0]}', which {paths[0]} and the others have.")
    twice = {name for one in found for name in one.columns if one.columns.count(name) > 1}
    try:
        table = pa.concat_tables([one.table for one in found], promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(f"{paths[0]} and the files beside it do not fit together: {first_line(error)}") from error
    notes = dict.fromkeys(note for one in found for note in one.notes)
    return Read(table, (*names, *twice), (counted(len(paths), "file"), *notes))


def require_settings_used(paths: Sequence[Path], how: Reading) -> None:
    """Raise `UserError` if a setting of text files is given and none of these files is one that it acts on."""
    formats = {format_of(path) for path in paths}
    of_delimited = {
        "delimiter": how.delimiter is not None,
        "header": not how.header,
        "quoting": how.quoting is not None,
    }
    given = [name for name, there in of_delimited.items() if there and formats.isdisjoint(DELIMITED)]
    given += ["encoding"] if how.encoding is not None and formats <= {"parquet", "arrow"} else []
    if given:
        found = f"{paths[0]} is {format_of(paths[0])}" if paths else "this task has no file"
        raise UserError(
            f"task.{given[0]} says how {', '.join(DELIMITED)}{', json, jsonl' if given[0] == 'encoding' else ''} "
            f"files are read; {found}: leave it out."
        )
