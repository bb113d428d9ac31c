"""metrics.jsonl: one JSON object a step or evaluation, and the same rows for everyone who watches."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from selfdistill_cli.files import disk_errors


class Watcher(Protocol):
    """Somebody who is shown every row."""

    def row(self, values: dict[str, Any]) -> None: ...


class MetricsRecorder:
    """Appends rows to metrics.jsonl; the file can be cut back to a checkpoint's length."""

    def __init__(self, path: Path, watchers: Sequence[Watcher]) -> None:
        self.path = path
        self.watchers = watchers
        with disk_errors(path):
            self._file = path.open("ab")

    def row(self, values: dict[str, Any]) -> None:
        """Write one row. Raises `UserError` if the disk is full."""
        line = json.dumps(values, allow_nan=False) + "\n"
        with disk_errors(self.path):
            self._file.write(line.encode())
            self._file.flush()
        for watcher in self.watchers:
            watcher.row(values)

    def position(self) -> int:
        """Length of the file in bytes."""
        return self._file.tell()

    def rewind(self, position: int) -> None:
        """Cut the file back to this length."""
        self._file.truncate(position)
        self._file.seek(position)

    def flush(self) -> None:
        """Bring all rows to the disk."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Bring all rows to the disk and close the file."""
        self.flush()
        self._file.close()
