"""What the jobs of a sweep leave, whoever runs them.

outputs/sweeps/<time>/jobs/<n>.json      one job's record
outputs/sweeps/<time>/jobs/<n>.log       the traceback of a job that failed
outputs/sweeps/<time>/jobs/<n>.out       what a job printed, of those that run side by side
outputs/sweeps/<time>/jobs/notes.txt     which settings some of its options lack

Hydra numbers jobs from 0; people, and so these files, from 1: the last one is job 15 of 15.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.results import objective
from selfdistill_cli.system.files import disk_errors, read_json, write_json

Record = dict[str, Any]
NOTES = "notes.txt"


class JobRecords:
    """The records of one sweep."""

    def __init__(self, sweep_dir: Path) -> None:
        self.folder = sweep_dir.absolute() / "jobs"

    def clear(self) -> None:
        """Remove what an earlier sweep in the same folder left: its jobs are not those of this one."""
        with disk_errors(self.folder):
            for path in self.folder.glob("*"):
                of_a_job = path.stem.isdecimal() and path.suffix in (".json", ".log", ".out")
                if of_a_job or path.name == NOTES:  # and nothing of the user's
                    path.unlink()

    def read(self, number: int) -> Record | None:
        """The record of Hydra's job `number`, or None."""
        return read_json(self.folder / f"{number + 1}.json")

    def write(self, number: int, overrides: Sequence[str], result: Record) -> Record:
        """Keep the record of Hydra's job `number`."""
        record = result | {"job": number + 1, "overrides": list(overrides)}
        write_json(self.folder / f"{number + 1}.json", record)
        return record

    def failed(self, number: int, overrides: Sequence[str], error: BaseException, seconds: float) -> Record:
        """Keep the traceback of a job that failed, and its record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{number + 1}.log"
        with contextlib.suppress(OSError):  # a full disk; the record may still find room
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        return self.write(number, overrides, _failure(_reason(error), seconds) | {"log": str(log)})

    def lost(self, number: int, overrides: Sequence[str], reason: str, log: Path) -> None:
        """Record a job that was killed before it could record anything; `log` is what it printed."""
        lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        self.write(number, overrides, _failure(f"{reason}; its log {log} ends: {last[:200]}", 0.0))

    def output(self, number: int) -> Path:
        """Where what Hydra's job `number` prints is kept, if it is kept."""
        return self.folder / f"{number + 1}.out"

    def note(self, lines: Sequence[str]) -> None:
        """Keep what is to be said of the sweep as a whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / NOTES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def notes(self) -> list[str]:
        """What was noted of the sweep as a whole."""
        file = self.folder / NOTES
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []

    def all(self) -> list[Record]:
        """Every record, in the order of the jobs."""
        numbers = sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal())
        return [record for number in numbers if (record := self.read(number - 1)) is not None]


def score_of(record: Record | None) -> float | None:
    """What a sweeper is told of a job: what it chooses by. None of a failed one; NaN would be a score to them."""
    return None if record is None or record["status"] == "failed" else objective(record)


def seconds_left(records: Sequence[Record], jobs: int, at_once: int = 1) -> float | None:
    """How long `jobs` more jobs will take, by those that trained in this sweep; None before the first has."""
    took = [record["took"] for record in records if record["status"] == "finished" and "took" in record]
    return mean(took) * math.ceil(jobs / at_once) if took and jobs else None


def _failure(reason: str, seconds: float) -> Record:
    return {"status": "failed", "reason": reason, "seconds": round(seconds, 3)}


def _reason(error: BaseException) -> str:
    """What went wrong; the kind of an error that is not the user's, and where it came from if it has no words."""
    if isinstance(error, UserError):
        return str(error)
    words = str(error).strip()
    if words:
        return f"{type(error).__name__}: {words}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f", in {frames[-1].name} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__} without a message{where}"
