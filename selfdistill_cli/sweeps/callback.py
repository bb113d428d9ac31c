"""The beginning and the end of a sweep: who runs its jobs, and the table of all of them.

outputs/sweeps/<time>/sweep.csv
"""

from __future__ import annotations

import contextlib
import csv
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import selects_on_test
from selfdistill_cli.config.command_line import named_options
from selfdistill_cli.config.metrics import require_direction
from selfdistill_cli.config.options import default_groups
from selfdistill_cli.errors import UserError
from selfdistill_cli.sweeps.choices import require_held
from selfdistill_cli.sweeps.plan import name_of, read_plan, searched, varied_settings
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.sweeps.summary import names_of_rounds, print_summary, scores_by_round
from selfdistill_cli.system.files import disk_errors
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


@contextlib.contextmanager
def ending_the_command() -> Iterator[None]:
    """Have an error end the command, with its words or its traceback: Hydra turns those of callbacks into warnings."""
    try:
        yield
    except (UserError, OSError) as error:
        raise SystemExit(f"sdrun: {error}") from error
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(1) from error


class SweepReport(Callback):
    """Hydra calls it when a sweep begins and when it has ended, whoever ran the jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have our launchers run the jobs, without records that an earlier sweep left in the same folder.

        Raises `SystemExit` if several processes were started together: an experiment file sweeps without `-m`, so that
        only here it is certain that the command is a sweep.
        """
        from selfdistill_cli.sweeps.launchers import take_their_places

        with ending_the_command():
            if world_size() > 1:
                raise UserError(
                    "a sweep cannot be run by several processes together. Start each run with torchrun, or let SLURM "
                    "start the tasks of each job: sdrun -m hydra/launcher=slurm hydra.launcher.tasks_per_node=2 "
                    "hydra.launcher.gpus_per_node=2 …"
                )
            require_direction(config)
            _require_no_search_on_test(config)
            _require_search_of_what_is_there(config)
            _require_runs_of_their_own(config)
            take_their_places(config.hydra.launcher)
            _quiet_search(config.hydra.sweeper._target_)
            JobRecords(Path(config.hydra.sweep.dir)).clear()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show and write the table of all jobs; leave with status 1 if any failed."""
        with ending_the_command():
            self._report(config)

    def _report(self, config: DictConfig) -> None:
        from selfdistill_cli.tracking.terminal import make_console, say, shortest

        sweep_dir = Path(config.hydra.sweep.dir).absolute()
        records, plan = JobRecords(sweep_dir).all(), read_plan(sweep_dir)
        varied = varied_settings([record["overrides"] for record in records])
        table = sweep_dir / "sweep.csv"
        with disk_errors(table), table.open("w", newline="", encoding="utf-8") as file:
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


def _require_search_of_what_is_there(config: DictConfig) -> None:
    """Raise `UserError` if a search would draw values of a setting that its option lacks: all of its trials were equal."""
    if not OmegaConf.select(config, "hydra.sweeper.n_trials"):
        return
    typed = dict(word.partition("=")[::2] for word in config.hydra.overrides.task)
    given = {**config.hydra.sweeper.params, **typed}
    for key in map(str, given):
        group = key.partition(".")[0]
        if group in default_groups() and "." in key:
            options = named_options(group, str(given.get(group, config.hydra.runtime.choices.get(group))))
            require_held(key, options, [f"{group}={','.join(options)}"])


def _require_runs_of_their_own(config: DictConfig) -> None:
    """Raise `UserError` if a sweep varies what is no part of a run's key: one run's figures would stand under all values."""
    folder = str(OmegaConf.to_container(config.paths, resolve=False)["outputs"])  # type: ignore[call-overload, index]
    varied = [
        name
        for name in searched(config)
        if name.partition(".")[0] in ("runtime", "tracking") and f"${{{name}}}" not in folder
    ]
    if varied and not config.rerun:
        raise UserError(
            f"{varied[0]} is no part of what a run is known by: the runs of this sweep that differ in it alone would be one "
            "run, shown again under its other values. Give each value a command of its own, and a folder: "
            f"sdrun … {varied[0]}=<value> paths.outputs=<folder>. rerun=true trains anew for each and keeps the last run."
        )


def _direction(config: DictConfig) -> str | None:
    """Where a sweeper searches for the best score: `maximize` or `minimize`. None for combinations, and several goals."""
    direction = OmegaConf.select(config, "hydra.sweeper.direction")
    name = getattr(direction, "name", direction)
    return name if isinstance(name, str) else None
