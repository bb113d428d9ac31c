"""All runs below some folders, read once: an index beside them notices what changed."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.reports.runs import Run, is_run, read_run, signature

VERSION = 1
"""Raise it when a reading of the same files changes."""
PASSED_OVER = {"model", "checkpoints", "wandb", "evaluations", ".cache", "sweeps"}


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run below these folders, or that they are, in the order of their paths.

    Raises `UserError` if a folder does not exist.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
            raise UserError(f"there is no folder {folder}.{did_you_mean(folder.name, beside)}")
        found |= {run.path: run for run in _indexed(folder.absolute())}
    return [found[path] for path in sorted(found)]


def _indexed(folder: Path) -> Iterator[Run]:
    with closing(_open(folder / ".cache" / "report_index.sqlite")) as index, index:
        known = {
            path: (was, content) for path, was, content in index.execute("select path, signature, content from runs")
        }
        for place in _run_folders(folder):
            name, now = str(place.relative_to(folder)), signature(place)
            was, content = known.get(name, (None, None))
            if was == now and content is not None:
                yield Run.from_json({**json.loads(content), "path": str(place)})
                continue
            run = read_run(place)
            if run.status != "running":  # whether somebody works on it is no matter of its files
                index.execute("replace into runs values (?, ?, ?)", (name, now, json.dumps(run.to_json())))
            yield run


def _open(path: Path) -> sqlite3.Connection:
    """The index; in memory where the folder may not be written or the file is none of ours."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        index = sqlite3.connect(path, timeout=60)
        if index.execute("pragma user_version").fetchone()[0] != VERSION:
            index.execute("drop table if exists runs")
            index.execute(f"pragma user_version = {VERSION}")
    except (OSError, sqlite3.DatabaseError):
        index = sqlite3.connect(":memory:")
    index.execute("create table if not exists runs (path text primary key, signature text, content text)")
    return index


def _run_folders(folder: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(folder):
        if is_run(Path(place)):
            yield Path(place)
            folders.clear()
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER)
