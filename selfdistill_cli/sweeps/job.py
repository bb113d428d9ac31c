"""One job of a sweep, in whatever process it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from selfdistill_cli.errors import Interrupted
from selfdistill_cli.sweeps.records import JobRecords, Record
from selfdistill_cli.system.ranks import is_main


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
