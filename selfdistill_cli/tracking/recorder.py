"""metrics.jsonl: one JSON object a step or evaluation, and the same rows for everyone who watches."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import disk_errors


class Watcher(Protocol):
    """Somebody who follows a run."""

    def start(self, total_steps: int, earlier: Iterable[dict[str, Any]]) -> None:
        """Training begins, or goes on after the `earlier` rows of an interrupted run."""

    def row(self, values: dict[str, Any]) -> None:
        """A row was written."""

    def finish(self, results: dict[str, Any] | None) -> None:
        """The run has ended; without results if it was interrupted or failed."""


class MetricsRecorder:
    """Appends rows to metrics.jsonl; the file can be cut back to a checkpoint's length."""

    def __init__(self, path: Path, watchers: Sequence[Watcher]) -> None:
        self.path = path
        self.watchers = watchers
        with disk_errors(path):
            self._file = path.open("ab")

    def start(self, total_steps: int) -> None:
        """Tell the watchers that training begins."""
        for watcher in self.watchers:
            watcher.start(total_steps, self._rows())

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
        """Cut the file back to this length. Raises `UserError` if it is shorter."""
        if self.path.stat().st_size < position:
            raise UserError(f"{self.path} has lost rows that its checkpoint counts on. rerun=true starts afresh.")
        self._file.truncate(position)
        self._file.seek(position)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """What the file holds."""
        with self.path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def flush(self) -> None:
        """Bring all rows to the disk."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self, results: dict[str, Any] | None) -> None:
        """Bring all rows to the disk, close the file, and tell the watchers how the run ended."""
        try:
            self.flush()
        finally:
            with contextlib.suppress(OSError):  # of a full disk `row` has told; closing tries its bytes once more
                self._file.close()
            for watcher in self.watchers:
                watcher.finish(results)


class SilentRecorder:
    """For the processes of a run that neither write nor speak."""

    def start(self, total_steps: int) -> None: ...

    def row(self, values: dict[str, Any]) -> None: ...

    def position(self) -> int:
        return 0

    def rewind(self, position: int) -> None: ...

    def flush(self) -> None: ...

    def close(self, results: dict[str, Any] | None) -> None: ...
