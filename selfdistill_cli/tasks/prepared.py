"""Splits on the disk, ready to be encoded: Arrow files that are mapped into memory, so that rows cost none until read.

0.arrow  # the training split: labels, rows, texts, and what else its kind of task has; 1.arrow … validation
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from selfdistill_cli.tasks.split import Split

ROWS_AT_ONCE = 2**13
"""How many rows are rendered, written or tokenized together."""

TYPES = {
    "texts": pa.string(),
    "pairs": pa.string(),
    "groups": pa.string(),
    "answers": pa.string(),
    "references": pa.list_(pa.string()),
    "turns": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    "choices": pa.list_(pa.string()),
}

NUMBERS = ("labels", "rows", "weights")


class Column(Sequence[Any]):
    """A column of a file, mapped into memory; rows become Python objects as they are asked for."""

    def __init__(self, path: Path, name: str, values: pa.ChunkedArray) -> None:
        self.path = path
        self.name = name
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            return self.values[begin:end].to_pylist()[::step]
        return self.values[int(place)].as_py()

    def __iter__(self) -> Iterator[Any]:
        # Read and not mapped: who goes through all rows would have them all in memory in the end.
        with pa.OSFile(str(self.path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield from reader.get_batch(number)[self.name].to_pylist()


def write_split(path: Path, parts: Iterable[Split]) -> None:
    """Write a split that comes in parts."""
    writer: pa.RecordBatchFileWriter | None = None
    try:
        for part in parts:
            columns = {name: (getattr(part, name), kind) for name, kind in TYPES.items()}
            arrays = {
                name: pa.array(list(values), kind) for name, (values, kind) in columns.items() if values is not None
            }
            given = {name: getattr(part, name) for name in NUMBERS}
            numbers = {name: pa.array(values) for name, values in given.items() if values is not None}
            batch = pa.record_batch({**arrays, **numbers})
            writer = writer or pa.ipc.new_file(path, batch.schema)
            writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()


def read_split(path: Path, name: str) -> Split:
    """The split that `write_split` wrote, mapped."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    columns = {column: Column(path, column, table[column]) for column in TYPES if column in table.column_names}
    numbers = {column: table[column].to_numpy() for column in NUMBERS if column in table.column_names}
    return Split(name, "train", **{"pairs": None, **columns, **numbers})


def in_parts(split: Split, rows: np.ndarray) -> Iterator[Split]:
    """These examples of a split, some at a time."""
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        yield split.take(rows[begin : begin + ROWS_AT_ONCE])
