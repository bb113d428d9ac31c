"""Data files as tables: .parquet, .jsonl, .csv, .tsv. What cannot be read is named, with what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from selfdistill_cli.errors import UserError, did_you_mean, first_line

FORMATS = ("parquet", "jsonl", "csv", "tsv")


def read_table(path: Path) -> pa.Table:
    """Read .parquet, .jsonl, .csv or .tsv. Raises `UserError` if it is missing, damaged, empty or not UTF-8."""
    from pyarrow import csv, json, parquet

    require_readable(path)
    ending = _ending(path)
    with reading(path):
        if ending == "parquet":
            return parquet.read_table(path)
        _require_utf8(path)
        if ending == "jsonl":
            return json.read_json(path)
        return csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter="\t" if ending == "tsv" else ",", newlines_in_values=True),
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in the reading of a file into a `UserError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        raise UserError(f"{path} cannot be read as {_ending(path)}: {first_line(error)}") from error


def require_readable(path: Path) -> None:
    """Raise `UserError` if there is no such file, it is empty, or of another format."""
    with reading(path):
        if path.is_dir():
            raise UserError(f"{path} is a folder: name the file in it.")
        if not path.is_file():
            siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"There is no file {path}.{did_you_mean(path.name, siblings)}")
        if _ending(path) not in FORMATS:
            raise UserError(f"{path}: the ending must be one of {', '.join(FORMATS)}.")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty.")


def _ending(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()


def _require_utf8(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: byte {line[error.start]:#04x} is not UTF-8. Save the file as UTF-8 "
                    "(in a shell: iconv -f latin1 -t utf-8)."
                ) from error
