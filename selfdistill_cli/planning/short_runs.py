"""A few steps of a run, timed: a whole run, short, in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.planning.costs import Known, Sizes, known_run
from selfdistill_cli.runs.directory import RunDirectory

STEPS = 16
"""So many are done, in an epoch of their own."""
WARMING = 4
"""So many before the first short run that counts."""
EVALUATED = 256
"""So many validation examples at most: a full batch of predictions."""


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
        at_end = [split for scored in task.at_the_end.values() for split in scored.validation]
        test = [] if task.test is None else [task.test]
        predicted = sum(map(len, [*task.validation, *test]))
        watched = sum(map(len, task.while_training.validation))
        return Sizes(len(task.train), watched, predicted, sum(map(len, at_end)))

    def timed(self, cfg: DictConfig, sizes: Sizes) -> Known:
        """What a short run with these settings took. `sizes`: of the whole run."""
        if self._warm:
            return self._run(shortened(cfg, sizes, STEPS))
        began = time.monotonic()
        self._run(shortened(cfg, sizes, WARMING))
        first = time.monotonic() - began
        self._warm = True
        again = self._run(shortened(cfg, sizes, STEPS))
        evaluations = again.cost.evaluation_seconds * (again.sizes.watched + again.sizes.at_end)
        steps = again.cost.example_seconds * again.cost.passes * WARMING * cfg.schedule.batch_size
        usual = again.cost.overhead_seconds + evaluations + steps
        self.ready_seconds += max(0.0, first - usual)
        return again

    def _run(self, cfg: DictConfig) -> Known:
        cfg.paths.outputs = str(self.folder)
        with _silence():
            self._experiment.run(cfg)
        return known_run(RunDirectory(cfg).path, cfg.paths.cache)


def shortened(cfg: DictConfig, sizes: Sizes, steps: int) -> DictConfig:
    """The same settings on fewer examples, for one epoch, with the method at work from the first step."""
    short: DictConfig = copy.deepcopy(cfg)
    OmegaConf.set_struct(short, False)
    short.task.train_examples = min(sizes.train, steps * cfg.schedule.batch_size)
    short.task.validation_examples = min(EVALUATED, cfg.task.validation_examples or EVALUATED)
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
