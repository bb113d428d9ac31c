"""The beginning and the end of a sweep: who runs its jobs, and the table of all of them.

outputs/sweeps/<time>/sweep.csv
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.sweeps.records import JobRecords, Record
from selfdistill_cli.system.ranks import world_size

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


class SweepReport(Callback):
    """Hydra calls it when a sweep begins and when it has ended, whoever ran the jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have our launchers run the jobs.

        Raises `SystemExit` if several processes were started together: an experiment file sweeps without `-m`, so that
        only here it is certain that the command is a sweep.
        """
        from selfdistill_cli.sweeps.launchers import take_their_places

        try:
            if world_size() > 1:
                raise UserError(
                    "a sweep cannot be run by several processes together. Start each run with torchrun, or let SLURM "
                    "start the tasks of each job: sdrun -m hydra/launcher=slurm hydra.launcher.tasks_per_node=2 …"
                )
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


def _name_differences(records: list[Record]) -> None:
    """`settings`: the overrides of a job that not every job shares; all of them in a sweep of one."""
    shared = set.intersection(*(set(record["overrides"]) for record in records)) if len(records) > 1 else set()
    for record in records:
        record["settings"] = " ".join(word for word in record["overrides"] if word not in shared)


def _print_table(records: list[Record], sweep_dir: Path) -> None:
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
