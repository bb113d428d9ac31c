"""Runs on a CUDA card within this process, left alone or stopped and continued, and what a step waited for.

SDRUN_GPU_TESTS_ON=cpu runs the same tests on a processor: so they are known to work before a card is at hand.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from selfdistill_cli import experiment
from selfdistill_cli.engine.loop import TrainingLoop
from tests.helpers.every_method import METHODS, draws, given_teacher, refusal, short_teacher
from tests.helpers.runs import SMALL, composed
from tests.helpers.waiting import as_on_a_card

ON = os.environ.get("SDRUN_GPU_TESTS_ON", "cuda")
TASKS = ("synth_entailment", "synth_similarity", "synth_arithmetic")
WATCHED_FROM = 3
"""Step; libraries set themselves up in the first ones."""


def command(method: str, task: str, *more: str, teacher: Path | str = "nowhere") -> list[str]:
    """Ten steps with evaluations and checkpoints between them; a teacher is trained for five steps first."""
    writes = ["model=tiny_llama", "model.dropout=0.1", "task.decoding.max_new_tokens=4"]
    writes = writes if task == "synth_arithmetic" else []
    every = ["runtime.checkpoint_every='3 steps'", "schedule.evaluate_every=4", f"runtime.device={ON}"]
    words = [f"method={method}", f"task={task}", *SMALL, *writes, *every, *short_teacher(method)]
    return [*words, *given_teacher(method, teacher), *more]


def in_precision(name: str) -> str:
    """The word for this precision; a processor has no fp16."""
    return f"runtime.precision={'bf16' if ON == 'cpu' and name == 'fp16' else name}"


@lru_cache
def cases(*more: str, drawing: bool = True) -> list[tuple[str, str]]:
    """Methods and kinds of tasks that go together, and with these words. drawing: also methods that draw answers."""
    return [
        (method, task)
        for task in TASKS
        for method in METHODS
        if refusal(*command(method, task, *more)) is None and (drawing or not draws(method))
    ]


def train(folder: Path, words: list[str]) -> Path:
    """Do the run of this command below this folder, or go on with it; its directory."""
    outputs = [f"paths.outputs={folder / 'outputs'}", f"paths.data={folder / 'data'}"]
    return Path(experiment.run(composed(*words, *outputs))["directory"])


class Stopped(BaseException):
    """A run was stopped where nobody expected it."""


def stop(folder: Path, words: list[str], after: int) -> None:
    """`train`, stopped after so many steps."""
    finish = TrainingLoop._after_step
    stopped: list[int] = []

    def stopping(loop: TrainingLoop, record: Any) -> None:
        finish(loop, record)
        if loop.progress.step == after and not stopped:
            stopped.append(loop.progress.step)
            raise Stopped

    with mock.patch.object(TrainingLoop, "_after_step", stopping), suppress(Stopped):
        train(folder, words)
    assert stopped == [after]


def continued(folder: Path, words: list[str], after: int = 7) -> Path:
    """`train`, stopped after so many steps, and then gone on with from the checkpoint before."""
    stop(folder, words, after)
    return train(folder, words)


@contextmanager
def waits_of_steps() -> Iterator[list[str]]:
    """What steps wait for from `WATCHED_FROM` on, but for the answers that they draw; empty until it ends."""
    step, finish, found = TrainingLoop._step, TrainingLoop._after_step, []

    def watched(loop: TrainingLoop) -> None:
        if loop.progress.step + 1 < WATCHED_FROM:
            return step(loop)
        with (
            _waits() as noticed,
            mock.patch.object(TrainingLoop, "_after_step", lambda loop, record: left.append(record)),
        ):
            left: list[Any] = []
            step(loop)
        found.extend(noticed)
        return finish(loop, left[0])

    with mock.patch.object(TrainingLoop, "_step", watched):
        yield found


@contextmanager
def _waits() -> Iterator[list[str]]:
    if ON == "cpu":
        with as_on_a_card() as waits:
            yield waits.found
        return
    found: list[str] = []
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [f"{one.filename}:{one.lineno}" for one in noticed if "synchronizing CUDA operation" in str(one.message)]
