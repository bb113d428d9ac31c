"""A few steps of a run, timed: a whole run, short, in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.kinds import kind_of
from selfdistill_cli.planning.costs import Cost, Known, Sizes, known_run
from selfdistill_cli.runs.directory import RunDirectory

STEPS = 16
"""So many at most are done, in an epoch of their own."""
ENOUGH_SECONDS = 20.0
"""Of steps: where one takes long, fewer tell."""
WARMING = 3
"""So many before the first short run that counts."""
EVALUATED = 256
"""So many validation examples at most: a full batch of predictions."""
WRITTEN = 16
"""So many written answers at most: each takes as long as hundreds of predictions."""


@dataclass(frozen=True)
class Timed:
    """What came out of a short run."""

    known: Known
    steps: int


class ShortRuns:
    """Does them below `folder`. What a process has to make ready once, before its first run, it makes ready as well."""

    def __init__(self, folder: Path) -> None:
        began = time.monotonic()
        from selfdistill_cli import experiment

        self._experiment = experiment
        self.folder = folder
        self.ready_seconds = time.monotonic() - began
        """Of a process: what it does once, beside its runs."""
        self._warm = False

    def sizes(self, cfg: DictConfig) -> Sizes:
        """How many examples there are. Raises `UserError` if the data is not there, or is not what was asked for."""
        began = time.monotonic()
        task = self._experiment.task_data(cfg)
        self.ready_seconds += time.monotonic() - began
        test = [] if task.test is None else [task.test]
        predicted = sum(map(len, [*task.validation, *test]))
        watched = sum(map(len, task.while_training.validation))
        return Sizes(len(task.train), watched, predicted)

    def timed(self, cfg: DictConfig, sizes: Sizes) -> Timed:
        """What a short run with these settings took. `sizes`: of the whole run."""
        began = time.monotonic()
        first = Timed(self._run(shortened(cfg, sizes, WARMING)), WARMING)
        first_seconds = time.monotonic() - began
        steps = steps_that_tell(first.known.cost, cfg.schedule.batch_size)
        again = first if steps <= WARMING else Timed(self._run(shortened(cfg, sizes, steps)), steps)
        if not self._warm:
            self._warm = True
            cost, done = again.known.cost, first.known.sizes
            evaluations = cost.evaluation_seconds * (done.watched + done.predicted)
            usual = cost.overhead_seconds + evaluations + WARMING * _step_seconds(cost, cfg.schedule.batch_size)
            self.ready_seconds += max(0.0, first_seconds - usual)
        return again

    def _run(self, cfg: DictConfig) -> Known:
        cfg.paths.outputs = str(self.folder)
        with _silence():
            self._experiment.run(cfg)
        return known_run(RunDirectory(cfg).path, cfg.paths.cache)


def steps_that_tell(cost: Cost, batch_size: int) -> int:
    """How many steps to time where one takes as long as in `cost`: `STEPS`, or as many as `ENOUGH_SECONDS` hold."""
    return min(STEPS, int(ENOUGH_SECONDS / max(_step_seconds(cost, batch_size), 1e-9)))


def _step_seconds(cost: Cost, batch_size: int) -> float:
    return cost.example_seconds * cost.passes * batch_size


def shortened(cfg: DictConfig, sizes: Sizes, steps: int) -> DictConfig:
    """The same settings on fewer examples, for one epoch, with the method at work from the first step."""
    short: DictConfig = copy.deepcopy(cfg)
    scored = WRITTEN if "decoding" in kind_of(cfg.task).uses else EVALUATED
    OmegaConf.set_struct(short, False)
    short.task.train_examples = min(sizes.train, steps * cfg.schedule.batch_size)
    short.task.validation_examples = min(scored, cfg.task.validation_examples or scored)
    # Of so few examples none may be left to hold out, or to be of a second class; a row costs the same either way.
    short.task.selection = "validation"
    if short.task.metrics and "auroc" in short.task.metrics:
        short.task.metrics = [name for name in short.task.metrics if name != "auroc"] or ["accuracy"]
        short.task.metric = None if short.task.metric == "auroc" else short.task.metric
    short.schedule.update(epochs=1, max_steps=None, evaluate_every="epoch", keep="last", patience=None)
    for name in ("passes", "start_epoch", "warmup_epochs"):
        if name in short.method:
            short.method[name] = 1 if name == "passes" else 0
    if "epochs" in short.method.get("teacher", {}):
        short.method.teacher.epochs = 0
    if "generations" in short.method:
        short.method.generations = 1
    short.rerun, short.eval_tasks, short.sequence = True, [], []
    short.runtime.trace_steps = None
    if short.tracking.get("mode") is not None:
        short.tracking.mode = "offline"
    return short


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What short runs would say is nobody's concern; an error of theirs is raised all the same."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
