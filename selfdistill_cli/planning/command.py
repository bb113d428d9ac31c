"""How `--plan` goes through Hydra: everything is composed and checked as for a run, and then nothing is run.

What would land in paths.outputs (a sweep's notes, caches) lands in a folder that is thrown away.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.metrics import main_metric
from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.sweeps.callback import SweepReport, ending_the_command
from selfdistill_cli.sweeps.choices import Choices, Job
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system.ranks import world_size
from selfdistill_cli.system.signals import leaving_when_asked, listening

Jobs = list[tuple[DictConfig, Sequence[str]]]
"""Configuration and overrides of each."""


@dataclass(frozen=True)
class Request:
    """What is asked of a plan."""

    detect: float | None = None
    """A difference that seeds should show, in points (of 100; of a metric without bounds, in its own unit)."""


def taken_out(words: list[str]) -> Request | None:
    """Take `--plan` and `--detect` out of a command line; None if no plan is asked for.

    Raises `UserError` on a difference that is none.
    """
    detect = None
    for place, word in reversed(list(enumerate(words))):
        if word.partition("=")[0] == "--detect":
            value = word.partition("=")[2] if "=" in word else "".join(words[place + 1 : place + 2])
            detect = _points(value)
            del words[place : place + (1 if "=" in word else 2)]
    if "--plan" not in words:
        if detect is not None:
            raise UserError("--detect is a question to a plan: sdrun --plan --detect 1.0 …")
        return None
    words[:] = [word for word in words if word != "--plan"]
    return Request(detect)


def _points(value: str) -> float:
    try:
        points = float(value)
    except ValueError:
        points = math.nan
    if not 0 < points < math.inf:
        raise UserError(f"--detect {value}: a difference in points, greater than 0: --plan --detect 1.0")
    return points


def plan(request: Request, words: list[str]) -> None:
    """Print the plan of a command. `words`: sys.argv, which is given what keeps everything out of paths.outputs."""
    if world_size() > 1:
        raise UserError("--plan is for one process: leave out torchrun or srun.")
    try:
        with tempfile.TemporaryDirectory(prefix="sdrun-plan-") as scratch, listening(), leaving_when_asked():
            _composed(request, words, Path(scratch))
    except Interrupted as stop:
        print("sdrun: stopped; a plan leaves nothing behind.", file=sys.stderr)
        sys.exit(128 + stop.signal)


def _composed(request: Request, words: list[str], scratch: Path) -> None:
    target = f"{PlanOfSweep.__module__}.{PlanOfSweep.__qualname__}"
    words += [f"hydra.callbacks.sweep._target_={target}", f"++hydra.callbacks.sweep.scratch={scratch}"]
    words += [f"hydra.sweep.dir={scratch}/sweep", f"++hydra.callbacks.sweep.detect={request.detect or 'null'}"]

    def of_one(cfg: DictConfig) -> None:
        _show([(cfg, list(HydraConfig.get().overrides.task))], scratch, request.detect)

    hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="config")(of_one)()


def _keep_out_of_the_outputs(cfg: DictConfig, scratch: Path) -> None:
    """Before anything asks for the run's key, which may leave digests of large files in the cache."""
    OmegaConf.update(cfg, "paths.cache", str(scratch / "cache"))


def _show(
    jobs: Jobs,
    scratch: Path,
    detect: float | None,
    at_once: int = 1,
    notes: Sequence[str] = (),
    trial_seed: int | None = None,
) -> None:
    from selfdistill_cli.planning.cells import cells_of
    from selfdistill_cli.planning.estimates import plan_of
    from selfdistill_cli.planning.memory import memory_in_words
    from selfdistill_cli.planning.page import print_plan
    from selfdistill_cli.planning.seeds import seeds_for
    from selfdistill_cli.tracking.terminal import make_console, say

    for cfg, _ in jobs:
        _keep_out_of_the_outputs(cfg, scratch)
    cells = cells_of(jobs)
    outputs = Path(jobs[0][0].paths.outputs).absolute()
    console = make_console()
    for line in memory_in_words([cell.cfg for cell in cells if cell.left]):
        say(console, line)  # first: it reads neither weights nor data
    made = plan_of(cells, outputs, scratch, at_once)
    print_plan(console, made, outputs)
    for line in [*notes, *([] if detect is None else seeds_for(cells, detect, trial_seed))]:
        say(console, line)


# --- sweeps ---------------------------------------------------------------------------------------


class PlanOfSweep(Callback):
    """In the place of a sweep's report: collects the jobs that a launcher would be given, and shows the plan of them."""

    def __init__(self, scratch: str, detect: float | None) -> None:
        self.scratch, self.detect = Path(scratch), detect
        self.jobs: Jobs = []

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have a collector take the launcher's place, whichever was chosen."""
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # a search writes there what it found
        SweepReport().on_multirun_start(config, **kwargs)
        if OmegaConf.select(config, "hydra.sweeper.storage") is not None:
            OmegaConf.update(config, "hydra.sweeper.storage", None)  # a search's own record is not to hold a plan
        Collector.jobs = self.jobs  # Hydra makes the launcher itself, from what a configuration can hold
        Plugins.instance().class_name_to_class[config.hydra.launcher._target_] = Collector

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show the plan."""
        with ending_the_command():
            notes = JobRecords(Path(config.hydra.sweep.dir)).notes()
            trial_seed = OmegaConf.select(config, "hydra.sweeper.trial_seed")
            _show(self.jobs, self.scratch, self.detect, _at_once(config.hydra.launcher), notes, trial_seed)


class Collector(Launcher):
    """A launcher that runs nothing. A search is given the scores of runs that are there, so that it goes their way."""

    jobs: ClassVar[Jobs]

    def __init__(self, **params: Any) -> None:
        pass

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self._scores: list[float] = []

    def launch(self, job_overrides: Sequence[Job], initial_job_idx: int) -> Sequence[JobReturn]:
        choices, returned, sweep_dir = Choices(self), [], Path(self.config.hydra.sweep.dir)
        records = JobRecords(sweep_dir)  # in the scratch folder: a search of two stages reads them
        for number, job in enumerate(choices.acting(job_overrides), start=initial_job_idx):
            cfg = choices.composed(job)
            _keep_out_of_the_outputs(cfg, sweep_dir.parent)
            self.jobs.append((cfg, job))
            outcome = JobReturn(overrides=job, status=JobStatus.COMPLETED)
            outcome.return_value = self._score(cfg)
            metric = main_metric(cfg.task) or "score"
            records.write(number, job, {"status": "planned", "metric": metric, "score": outcome.return_value})
            returned.append(outcome)
        return returned

    def _score(self, cfg: DictConfig) -> float:
        """The score of a finished run; of another the mean of those that are: it says nothing for or against it."""
        from selfdistill_cli.runs.directory import RunDirectory
        from selfdistill_cli.runs.results import objective

        found = RunDirectory(cfg).results()
        if found is None:
            return fmean(self._scores or [0.0])
        self._scores.append(objective(found.as_dict()))
        return self._scores[-1]


def _at_once(launcher: DictConfig) -> int:
    """How many jobs this launcher runs side by side; on this machine, on one card."""
    return int(launcher.get("array_parallelism") or launcher.get("jobs_per_gpu") or 1)
