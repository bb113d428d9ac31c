"""The beginning and the end of a sweep: who runs its jobs, and the table of all of them.

outputs/sweeps/<time>/sweep.csv
"""

from __future__ import annotations

import contextlib
import csv
import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import selects_on_test
from selfdistill_cli.config.metrics import require_direction
from selfdistill_cli.errors import UserError
from selfdistill_cli.sweeps.plan import name_of, read_plan, varied_settings
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.sweeps.summary import names_of_rounds, print_summary, scores_by_round
from selfdistill_cli.system.ranks import world_size
from selfdistill_cli.system.words import counted

COLUMNS = (
    "job",
    "stage",
    "status",
    "settings",
    "metric",
    "score",
    "selection_score",
    "selected_on",
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
                    "start the tasks of each job: sdrun -m hydra/launcher=slurm hydra.launcher.tasks_per_node=2 "
                    "hydra.launcher.gpus_per_node=2 …"
                )
            require_direction(config)
            _require_no_search_on_test(config)
            take_their_places(config.hydra.launcher)
            _quiet_search(config.hydra.sweeper._target_)
        except UserError as error:
            raise SystemExit(f"sdrun: {error}") from error  # Hydra turns ordinary exceptions of callbacks into warnings

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show and write the table of all jobs; leave with status 1 if any failed."""
        from selfdistill_cli.tracking.terminal import make_console, say, shortest

        sweep_dir = Path(config.hydra.sweep.dir).absolute()
        records, plan = JobRecords(sweep_dir).all(), read_plan(sweep_dir)
        varied = varied_settings([record["overrides"] for record in records])
        with (sweep_dir / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
            columns = [*COLUMNS, *names_of_rounds(records)]
            writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
            writer.writeheader()
            for record in records:
                settings = " ".join(word for word in record["overrides"] if name_of(word) in varied)
                stage = "" if plan is None else plan.stage(record["job"] - 1)
                writer.writerow(record | {"settings": settings, "stage": stage} | scores_by_round(record))
        console = make_console()
        console.print()
        print_summary(console, records, _direction(config), plan)
        say(console, f"{shortest(sweep_dir)}/sweep.csv")
        for line in JobRecords(sweep_dir).notes():
            say(console, line)
        failed = sum(record["status"] == "failed" for record in records)
        if failed:
            raise SystemExit(f"sdrun: {failed} of {counted(len(records), 'job')} failed.")


def _quiet_search(sweeper: str) -> None:
    """Optuna names its studies after nothing and tells each trial; the jobs say more."""
    if "optuna" in sweeper:
        with contextlib.suppress(ImportError):  # Hydra says what is missing
            import optuna

            optuna.logging.set_verbosity(logging.WARNING)
            # Of a failed trial it says what its score is to Python; the job has said why.
            logging.getLogger("hydra_plugins.hydra_optuna_sweeper._impl").setLevel(logging.CRITICAL)


def _require_no_search_on_test(config: DictConfig) -> None:
    """Raise `UserError` if the best trial of a search would be the one that is best on a test set."""
    searches = any(OmegaConf.select(config, f"hydra.sweeper.{name}") for name in ("n_trials", "trials"))
    if searches and selects_on_test(config.task):
        raise UserError(
            f"task.selection=validation: task={config.task.name} is scored on its test split, which must not choose the "
            "best trial. Take task.selection=held_out."
        )


def _direction(config: DictConfig) -> str | None:
    """Where a sweeper searches for the best score: `maximize` or `minimize`. None for combinations, and several goals."""
    direction = OmegaConf.select(config, "hydra.sweeper.direction")
    name = getattr(direction, "name", direction)
    return name if isinstance(name, str) else None
