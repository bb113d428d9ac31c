"""Sweeps: every job leaves a record, a failure stops nobody, the end is one table.

outputs/sweeps/<time>/sweep.csv          the table
outputs/sweeps/<time>/jobs/<n>.json      one job's record
outputs/sweeps/<time>/jobs/<n>.log       the traceback of a job that failed
"""

from __future__ import annotations

import csv
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.ranks import is_main

COLUMNS = (
    "job",
    "status",
    "settings",
    "metric",
    "score",
    "best_epoch",
    "examples_forwarded",
    "seconds",
    "key",
    "directory",
    "reason",
)

Record = dict[str, Any]


class JobRecords:
    """The records that the jobs of a sweep leave, whoever runs them."""

    def __init__(self, sweep_dir: Path) -> None:
        self.folder = sweep_dir.absolute() / "jobs"

    def read(self, number: int) -> Record | None:
        """A job's record, or None."""
        from selfdistill_cli.runs import read_json

        return read_json(self.folder / f"{number}.json")

    def write(self, record: Record) -> None:
        """Keep a job's record."""
        from selfdistill_cli.files import write_json

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


def run_job(cfg: DictConfig, run: Callable[..., dict[str, Any]]) -> float:
    """Do one job of a sweep and write its record. Returns its score, or NaN if it failed."""
    from selfdistill_cli.tracking.terminal import make_console, say

    hydra_cfg = HydraConfig.get()
    sweep_dir = Path(hydra_cfg.sweep.dir)
    number, overrides, console = hydra_cfg.job.num, list(hydra_cfg.overrides.task), make_console()
    if not is_main():
        return _take_part(cfg, run)
    say(console, f"job {number}: {' '.join(overrides)}", style="bold")
    records, began = JobRecords(sweep_dir), time.monotonic()
    try:
        record: Record = {"job": number, "overrides": overrides} | run(cfg, group=sweep_dir.name)
        records.write(record)
    except Exception as error:
        record = records.failed(number, overrides, error, time.monotonic() - began)
        say(console, f"job {number} failed: {record['reason']}\n  traceback: {record['log']}", style="red")
    return float(record.get("score", "nan"))


def _take_part(cfg: DictConfig, run: Callable[..., dict[str, Any]]) -> float:
    """A job's further processes: the main one records how it went."""
    try:
        return float(run(cfg)["score"])
    except Interrupted as stop:
        # An exit code would make some clusters end the main process while it requeues the job.
        raise SystemExit(0) from stop
    except Exception:
        return float("nan")


class SweepReport(Callback):
    """Hydra calls it when a sweep begins and when it has ended, whoever ran the jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have our launchers run the jobs."""
        from selfdistill_cli.launchers import take_their_places

        try:
            take_their_places(config.hydra.launcher._target_)
        except UserError as error:
            raise SystemExit(f"sdrun: {error}") from error  # Hydra turns ordinary exceptions of callbacks into warnings

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show and write the table of all jobs; leave with status 1 if any failed."""
        sweep_dir = Path(config.hydra.sweep.dir).absolute()
        records = JobRecords(sweep_dir).all()
        _name_differences(records)
        with (sweep_dir / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(records)
        _print_table(records, sweep_dir)
        failed = sum(record["status"] == "failed" for record in records)
        if failed:
            raise SystemExit(f"sdrun: {failed} of {len(records)} jobs failed.")


def _name_differences(records: list[dict[str, Any]]) -> None:
    """`settings`: the overrides of a job that not every job shares; all of them in a sweep of one."""
    shared = set.intersection(*(set(record["overrides"]) for record in records)) if len(records) > 1 else set()
    for record in records:
        record["settings"] = " ".join(word for word in record["overrides"] if word not in shared)


def _print_table(records: list[dict[str, Any]], sweep_dir: Path) -> None:
    from rich.table import Table

    from selfdistill_cli.tracking.terminal import duration, make_console, say, shortest

    metrics = {record["metric"] for record in records if "metric" in record}
    score = metrics.pop() if len(metrics) == 1 else "score"
    table = Table(title=f"{len(records)} jobs", caption=f"{shortest(sweep_dir)}/sweep.csv")
    table.add_column("job", justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for name in (score, "best epoch", "examples", "time", "status"):
        table.add_column(name, justify="left" if name == "status" else "right")
    for record in records:
        if record["status"] == "failed":
            cells = ["–", "–", "–", duration(record["seconds"]), "failed"]
        else:
            cells = [
                f"{record['score']:.4f}" if score != "score" else f"{record['metric']} {record['score']:.4f}",
                f"{record['best_epoch']:.4g}",
                f"{record['examples_forwarded']:,}",
                duration(record["seconds"]),
                record["status"],
            ]
        table.add_row(str(record["job"]), record["settings"], *cells)
    console = make_console()
    console.print(table)
    for record in records:
        if record["status"] == "failed":
            say(console, f"job {record['job']} failed: {record['reason']}")
