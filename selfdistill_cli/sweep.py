"""Sweeps: every job leaves a record, a failure stops nobody, the end is one table.

outputs/sweeps/<time>/sweep.csv          the table
outputs/sweeps/<time>/jobs/<n>.json      one job's record
outputs/sweeps/<time>/jobs/<n>.log       the traceback of a job that failed
"""

from __future__ import annotations

import csv
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError

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


def run_job(cfg: DictConfig, run: Callable[..., dict[str, Any]]) -> float:
    """Do one job of a sweep and write its record. Returns its score, or NaN if it failed."""
    from selfdistill_cli.files import write_json
    from selfdistill_cli.tracking.terminal import make_console, say

    hydra_cfg = HydraConfig.get()
    sweep_dir = Path(hydra_cfg.sweep.dir).absolute()
    jobs = sweep_dir / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    number, console = hydra_cfg.job.num, make_console()
    record: dict[str, Any] = {"job": number, "overrides": list(hydra_cfg.overrides.task)}
    say(console, f"job {number}: {' '.join(record['overrides'])}", style="bold")
    began = time.monotonic()
    try:
        record |= run(cfg, group=sweep_dir.name)
    except Exception as error:
        log = jobs / f"{number}.log"
        log.write_text(traceback.format_exc(), encoding="utf-8")
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        record |= {"status": "failed", "reason": reason, "seconds": round(time.monotonic() - began, 3)}
        say(console, f"job {number} failed: {reason}\n  traceback: {log}", style="red")
    write_json(jobs / f"{number}.json", record)
    return float(record.get("score", "nan"))


class SweepReport(Callback):
    """Hydra calls it when a sweep has ended, whoever ran the jobs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show and write the table of all jobs; leave with status 1 if any failed."""
        sweep_dir = Path(config.hydra.sweep.dir).absolute()
        records = [json.loads(path.read_text(encoding="utf-8")) for path in (sweep_dir / "jobs").glob("*.json")]
        records.sort(key=lambda record: record["job"])
        _name_differences(records)
        with (sweep_dir / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(records)
        _print_table(records, sweep_dir)
        failed = sum(record["status"] == "failed" for record in records)
        if failed:
            # Hydra turns ordinary exceptions of callbacks into warnings.
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
