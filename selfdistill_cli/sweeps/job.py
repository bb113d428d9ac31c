"""One job of a sweep, in whatever process it runs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.runs.results import objective
from selfdistill_cli.sweeps.plan import Plan, name_of, read_plan
from selfdistill_cli.sweeps.records import JobRecords, Record, score_of, seconds_left
from selfdistill_cli.system.ranks import is_main, world_size

SECONDS_TO_RECORD = 20.0
"""What failed in all of a job's processes, the main one records in less."""


def run_job(cfg: DictConfig, run: Callable[..., dict[str, Any]]) -> float | None:
    """Do one job of a sweep and write its record. Returns what a sweep chooses by, or None if it failed."""
    from selfdistill_cli.tracking.terminal import make_console, say

    hydra_cfg = HydraConfig.get()
    sweep_dir = Path(hydra_cfg.sweep.dir)
    number, overrides, console = hydra_cfg.job.num, list(hydra_cfg.overrides.task), make_console()
    if not is_main():
        return _take_part(cfg, run)
    records, began = JobRecords(sweep_dir), time.monotonic()
    console.print()
    # Of jobs side by side the launcher tells how long the rest takes; each of them alone does not know.
    alone = str(hydra_cfg.launcher["_target_"]).endswith(".BasicLauncher")
    say(console, headline(number, overrides, read_plan(sweep_dir), records.all() if alone else ()), style="bold")
    try:
        result = run(cfg, group=sweep_dir.name)
        record = records.write(number, overrides, result | {"took": round(time.monotonic() - began, 3)})
    except Exception as error:
        record = records.failed(number, overrides, error, time.monotonic() - began)
        say(console, f"job {number + 1} failed: {record['reason']}\n  traceback: {record['log']}", style="red")
        if world_size() > 1:
            raise SystemExit(1) from error  # SLURM then ends the others, which may wait for this one
    return score_of(record)


def headline(
    number: int, overrides: Sequence[str], plan: Plan | None, records: Sequence[Record], at_once: int = 1
) -> str:
    """`job 3 of 15: method=kd seed=2 (about 4 min left)`: what differs from job to job, and how long the rest takes."""
    from selfdistill_cli.tracking.terminal import about

    total = plan.total if plan is not None else None
    shown = varied_words(overrides, plan)
    left = None if total is None else seconds_left(records, total - len(records), at_once)
    what = "trial" if plan is not None and plan.stage(number) == "trial" else "job"
    return (
        f"{what} {number + 1}"
        + (f" of {total}" if total is not None else "")
        + f": {' '.join(shown)}"
        + (f" ({about(left)} left)" if left is not None else "")
    )


def varied_words(overrides: Sequence[str], plan: Plan | None) -> list[str]:
    """Those of a job's overrides that differ from job to job."""
    return [word for word in overrides if plan is None or name_of(word) in plan.varied]


def _take_part(cfg: DictConfig, run: Callable[..., dict[str, Any]]) -> float | None:
    """A job's further processes: the main one records how it went.

    What ends this one alone is said here, and ends the main one too, which would wait for it until the job's time is up.
    """
    try:
        return objective(run(cfg))
    except Interrupted as stop:
        # An exit code would make some clusters end the main process while it requeues the job.
        raise SystemExit(0) from stop
    except UserError:
        return None  # every process was told, and the main one says it
    except Exception as error:
        traceback.print_exc()
        time.sleep(SECONDS_TO_RECORD)
        raise SystemExit(1) from error
