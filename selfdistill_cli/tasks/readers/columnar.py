"""Parquet and Arrow as tables: columns keep their types, names of classes take the place of their numbers.

In an MMLU of the Hub, `answer: ClassLabel(A, B, C, D)` is stored as 0 to 3: B as a class, 1 as the number of a choice.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.numbers import parsed_number
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
        if name in known and pa.types.is_integer(column.type):
            column = _named(column, name, known[name], how, f"{where}: column '{name}'")
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


def _named(column: pa.ChunkedArray, name: str, names: list[str], how: Reading, where: str) -> pa.ChunkedArray:
    """Names by numbers, where the task wants names; -1, which says that there is no label, becomes null."""
    import pyarrow.compute as pc

    shown = _names_shown(name, names, how, where)
    if shown is None and how.labels is not None:  # numbers of classes that the task has names for
        return column
    outside = [number for number in column.unique().to_pylist() if number is not None and not -1 <= number < len(names)]
    if outside:
        raise UserError(f"{where} holds class {outside[0]}, and the file names only {len(names)} classes: {names}.")
    numbers = pc.if_else(pc.equal(column, -1), None, column)
    if shown is None:
        return numbers
    return pa.chunked_array([pa.array(shown).take(chunk) for chunk in numbers.chunks], pa.string())


def _names_shown(name: str, names: list[str], how: Reading, where: str) -> list[str] | None:
    """The names of a column's classes, as task.labels spells them; None where the task reads the numbers.

    Raises `UserError` if task.labels has some of the names, and in other places.
    """
    if name not in how.label_columns:
        return names
    if how.kind == "multiple_choice":  # names of choices are not the places where they stand
        return None
    if how.kind == "regression":
        return names if all(parsed_number(one) is not None for one in names) else None
    if how.labels is None or set(names) <= set(how.labels):
        return names
    spelled = {one.casefold(): one for one in how.labels}
    found = [spelled.get(one.casefold()) for one in names]
    if len(spelled) == len(how.labels) and len(set(found)) == len(names) and None not in found:
        return [one for one in found if one is not None]
    moved = [one for place, one in enumerate(found) if one is not None and one not in how.labels[place : place + 1]]
    if moved:
        raise UserError(
            f"{where} has the classes {', '.join(names)} in this order, and task.labels has {', '.join(how.labels)}: "
            f"'{moved[0]}' stands in another place, so no number says which class is meant. Give task.labels the file's names, "
            "in any order, or names for them in the file's order."
        )
    return None
