"""The files of a run as a report reads them: each is read whole or is `DamagedFileError`, with what is wrong in words."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from selfdistill_cli.errors import first_line
from selfdistill_cli.runs.results import SCHEMA_VERSION

Rows = dict[str, list[dict[str, Any]]]
"""Records of metrics.jsonl by kind."""
NUMBER = (int, float)
NEEDED = {"score": NUMBER, "metric": str, "task": str, "method": str, "examples_forwarded": NUMBER}
"""What a report needs of results.json, and as what."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DamagedFileError(Exception):
    """A file of a run that cannot be used: its name, and why."""


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever goes wrong with this file is told as `DamagedFileError`: parsers and decoders have exceptions of their own."""
    try:
        yield
    except DamagedFileError as error:
        raise DamagedFileError(f"{path.name} {error}") from error
    except OSError as error:
        raise DamagedFileError(f"{path.name} cannot be read: {error.strerror or first_line(error)}") from error
    except Exception as error:
        raise DamagedFileError(f"{path.name} cannot be read: {first_line(error)}") from error


def read_config(path: Path) -> dict[str, Any]:
    """A config.yaml."""
    with _named(path):
        return _mapping(_LOADER(path.read_text(encoding="utf-8")).get_single_data())


def read_results(path: Path) -> dict[str, Any]:
    """A results.json that has what reports need; of a later version, of which nobody knows what it means, it is unfit."""
    results = read_scores(path, NEEDED)
    version = results.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise DamagedFileError(f"{path.name} is of a later version (schema version {version}, here {SCHEMA_VERSION})")
    return results


def read_scores(path: Path, needed: Mapping[str, Any] = {"score": NUMBER, "metric": str}) -> dict[str, Any]:
    """A JSON file with a finite score and whatever else is needed, by name and type."""
    with _named(path):
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise DamagedFileError("is empty")
        scores = _mapping(json.loads(text))
        missing = [name for name in needed if name not in scores]
        if missing:
            raise DamagedFileError(f"has no {', '.join(missing)}")
        for name, kind in needed.items():
            value = scores[name]
            if not isinstance(value, kind) or isinstance(value, bool) or (kind == NUMBER and not math.isfinite(value)):
                raise DamagedFileError(f"has {value} as {name}")
        return scores


def _mapping(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DamagedFileError("holds no names with values")
    return content


def read_rows(path: Path) -> tuple[Rows, dict[str, Any], int]:
    """Records of a metrics.jsonl by kind, the last one that says its step, and how many lines cannot be read.

    A last line that a crash has torn is passed over and not counted: a run that goes on writes it anew.
    """
    rows: Rows = {}
    last: dict[str, Any] = {}
    torn = 0
    with _named(path):
        lines = path.read_bytes().splitlines() if path.is_file() else []
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
            rows.setdefault(row["kind"], []).append(row)
        except (ValueError, TypeError, KeyError):
            torn += number + 1 < len(lines)
            continue
        last = row if "step" in row else last
    return rows, last, torn


def require_both_ends(path: Path) -> None:
    """Raise `DamagedFileError` if a parquet file is missing or was cut: its end is then gone. What lies between is not read."""
    with _named(path):
        if not path.is_file():
            raise DamagedFileError("is missing")
        with path.open("rb") as file:
            begins = file.read(4)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            end = file.read()
        if begins != b"PAR1" or end[4:] != b"PAR1" or int.from_bytes(end[:4], "little") + 12 > size:
            raise DamagedFileError("is empty" if size == 0 else "is cut, or no parquet file")


def require_predictions(path: Path) -> None:
    """Raise `DamagedFileError` unless every row of a file of predictions can be read, and it says what was right."""
    names = require_whole(path)
    if not {"split", "index"} <= names or not ({"prediction", "label"} <= names or "correct" in names):
        raise DamagedFileError(f"{path.name} holds no predictions")


def require_whole(path: Path) -> set[str]:
    """The names of a parquet file's columns, once every row of every column has been read.

    Raises `DamagedFileError` if one cannot be, or there is none.
    """
    with _named(path):
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        if file.metadata.num_rows == 0:
            raise DamagedFileError("has no row")
        for _ in file.iter_batches():
            pass
        return set(file.schema_arrow.names)
