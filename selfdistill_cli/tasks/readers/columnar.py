"""Parquet and Arrow as tables: columns keep their types, names of classes take the place of their numbers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.readers.base import ROWS_AT_ONCE, Read, Reading


def read_parquet(path: Path, how: Reading) -> Read:
    """The wanted columns of a Parquet file; only these are read from the disk."""
    from pyarrow import parquet

    with parquet.ParquetFile(_source(path)) as file:  # read_table would make columns of folders named a=b
        names = file.schema_arrow.names
        wanted = _wanted(names, how)
        # In batches: the whole at once needs a quarter more memory on the way (a million rows).
        batches = list(file.iter_batches(ROWS_AT_ONCE, columns=wanted)) if wanted else []
        table = pa.Table.from_batches(batches) if batches else file.read(columns=wanted)
    return Read(plain_table(table, how, str(path)), tuple(names))


def read_arrow(path: Path, how: Reading) -> Read:
    """The wanted columns of an Arrow file, or of a stream as `datasets` writes it."""
    source = _source(path)
    buffer = pa.memory_map(source) if isinstance(source, str) else source
    try:
        table = pa.ipc.open_file(buffer).read_all()
    except pa.ArrowInvalid:
        buffer.seek(0)
        table = pa.ipc.open_stream(buffer).read_all()
    names = table.column_names
    return Read(plain_table(table.select(_wanted(names, how)), how, str(path)), tuple(names))


def plain_table(table: pa.Table, how: Reading, where: str) -> pa.Table:
    """The table with dictionaries decoded, bytes as texts, and the names of classes that its metadata knows.

    Raises `UserError` if bytes are no UTF-8, or a class has no name.
    """
    known = _class_names(table.schema)
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        plain = _plain(column.type)
        if plain != column.type:
            try:
                column = column.cast(plain)
            except pa.ArrowInvalid:
                raise UserError(
                    f"{where}: column '{name}' holds bytes that are no UTF-8 text. Write it as a column of strings."
                ) from None
        names = known.get(name)
        if names and pa.types.is_integer(column.type) and (how.labels is None or set(names) <= set(how.labels)):
            column = _named(column, names, f"{where}: column '{name}'")
        if column is not table.column(place):
            table = table.set_column(place, name, column)
    return table


def _source(path: Path) -> Any:
    if path.suffix.lower() != ".gz":
        with path.open("rb"):  # the reason why it cannot be opened, in the system's words
            return str(path)
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file:
        return pa.BufferReader(file.read())


def _wanted(names: list[str], how: Reading) -> list[str]:
    """Without those that stand twice: whoever asks for one is told."""
    return [name for name in names if how.wants(name) and names.count(name) == 1]


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type without dictionaries and bytes."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    views = pa.types.is_binary_view(kind) or pa.types.is_string_view(kind)
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or views:
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.large_string()
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([inside.with_type(_plain(inside.type)) for inside in kind])
    return kind


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """By column, the names of classes that `datasets` left in the metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        about = {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):  # somebody else's metadata
        return {}
    return {
        name: list(one["names"]) for name, one in about.items() if one.get("_type") == "ClassLabel" and one.get("names")
    }


def _named(column: pa.ChunkedArray, names: list[str], where: str) -> pa.ChunkedArray:
    """Names by numbers; -1, which says that there is no label, becomes null."""
    import pyarrow.compute as pc

    outside = [number for number in column.unique().to_pylist() if number is not None and not -1 <= number < len(names)]
    if outside:
        raise UserError(f"{where} holds class {outside[0]}, and the file names only {len(names)} classes: {names}.")
    numbers = pc.if_else(pc.equal(column, -1), None, column)
    return pa.chunked_array([pa.array(names).take(chunk) for chunk in numbers.chunks], pa.string())
