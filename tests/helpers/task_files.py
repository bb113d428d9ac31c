"""Tasks out of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from selfdistill_cli.kinds import load_task
from selfdistill_cli.tasks import TaskData
from tests.helpers.runs import composed


def load(*overrides: str, data: Path | str = "nowhere", seed: int = 0) -> TaskData:
    """The task that these overrides describe, from files below `data`."""
    return load_task(composed(*overrides).task, str(data), seed)


def load_table(
    columns: dict[str, list[Any]], folder: Path, ending: str = "jsonl", seed: int = 0, **settings: Any
) -> TaskData:
    """A task=custom of a file with these columns and these settings, by default `text` and `label`."""
    task = composed("task=custom").task
    task.update({"text": "text", "label": "label", "path": str(write(folder / f"rows.{ending}", columns))} | settings)
    return load_task(task, "nowhere", seed)


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Write a table in the format of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        table.to_pandas().to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path
