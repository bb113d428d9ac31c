"""What the jobs of a sweep leave, whoever runs them.

outputs/sweeps/<time>/jobs/<n>.json      one job's record
outputs/sweeps/<time>/jobs/<n>.log       the traceback of a job that failed
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import read_json, write_json

Record = dict[str, Any]


class JobRecords:
    """The records of one sweep."""

    def __init__(self, sweep_dir: Path) -> None:
        self.folder = sweep_dir.absolute() / "jobs"

    def read(self, number: int) -> Record | None:
        """A job's record, or None."""
        return read_json(self.folder / f"{number}.json")

    def write(self, record: Record) -> None:
        """Keep a job's record."""
        write_json(self.folder / f"{record['job']}.json", record)

    def failed(self, number: int, overrides: Sequence[str], error: BaseException, seconds: float) -> Record:
        """Keep the traceback of a job that failed, and its record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{number}.log"
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        record = _failure(number, overrides, reason, seconds) | {"log": str(log)}
        self.write(record)
        return record

    def lost(self, number: int, overrides: Sequence[str], reason: str, log: Path) -> None:
        """Record a job that was killed before it could record anything; `log` is what it printed."""
        lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        self.write(_failure(number, overrides, f"{reason}; its log {log} ends: {last[:200]}", 0.0))

    def all(self) -> list[Record]:
        """Every record, in the order of the jobs."""
        numbers = sorted(int(path.stem) for path in self.folder.glob("*.json"))
        return [record for number in numbers if (record := self.read(number)) is not None]


def _failure(number: int, overrides: Sequence[str], reason: str, seconds: float) -> Record:
    overrides = list(overrides)
    return {"job": number, "overrides": overrides, "status": "failed", "reason": reason, "seconds": round(seconds, 3)}
