"""Kill real `sdrun` processes at seeded random instants, give the command again, compare with a run left alone.

The points that a run passes (fault_injection.passing) are counted in an undisturbed run first. Then a seeded
generator draws one of them, the process is killed there as `kill -9` does, the same command goes on and is
killed again …, and at last left to end. Weights, metrics.jsonl, results.json and predictions must be those
of the undisturbed run, byte for byte where they hold no times.

Methods that remember anything between steps do so on every kind of task, the others on one. SDRUN_CRASH_KILLS=60 kills
sixty times, shared among the cases; by default it is once in each.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.every_method import METHODS, given_teacher, has_state, refusal, run_of, short_teacher
from tests.helpers.processes import Finished, run_command, user_environment
from tests.helpers.runs import SMALL, assert_same

FIRST, *OTHERS = "synth_entailment", "synth_similarity", "synth_arithmetic"


def command(method: str, task: str, teacher: Path | str = "nowhere") -> list[str]:
    """Ten steps with evaluations and checkpoints between them; a teacher is trained for five steps first."""
    every = ["runtime.checkpoint_every=3 steps", "schedule.evaluate_every=4"]
    writes = ["model=tiny_llama", "task.decoding.max_new_tokens=4"] if task == "synth_arithmetic" else []
    looks = ["gradients", "examples", *(["maps"] if task == "synth_arithmetic" else [])]
    diagnostics = f"runtime.diagnostics=[{','.join(looks)}]"
    name, *settings = method.split()
    taught = [*short_teacher(name), *given_teacher(name, teacher)]
    return [f"method={name}", *settings, f"task={task}", *SMALL, *every, *taught, *writes, diagnostics]


def can_run(method: str, task: str) -> bool:
    return refusal(*command(method, task)) is None


CASES = [(method, FIRST) for method in METHODS if can_run(method, FIRST)]
CASES += [(method, task) for task in OTHERS for method in METHODS if has_state(method) and can_run(method, task)]
CASES += [("dynsdpb method.outputs=sampled", "synth_arithmetic")]
KILLS_PER_CASE = max(1, int(os.environ.get("SDRUN_CRASH_KILLS", 0)) // len(CASES))


def sdrun(folder: Path, words: list[str], **variables: str) -> Finished:
    folder.mkdir(exist_ok=True)
    return run_command(folder, user_environment(folder) | variables, *words)


@pytest.mark.parametrize(("method", "task"), CASES)
def test_a_killed_run_ends_as_the_undisturbed_one(
    method: str, task: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    undisturbed, points = tmp_path / "undisturbed", tmp_path / "points"
    words = command(method, task)
    if given_teacher(method.split()[0]):
        of_teacher = [*command("vanilla", task), "schedule.epochs=1"]
        assert sdrun(tmp_path, of_teacher).code == 0
        words = command(method, task, run_of(tmp_path / "outputs", *of_teacher))
    ended = sdrun(undisturbed, words, SDRUN_FAULT_LOG=str(points))
    assert ended.code == 0, ended.err
    passed = points.read_text().splitlines()

    drawn = random.Random(f"{method} {task}")
    at: list[str] = []
    runs = 1
    while True:
        folder = tmp_path / f"killed {runs}"
        enough = len(at) == KILLS_PER_CASE
        points.unlink(missing_ok=True)
        fault = {} if enough else {"SDRUN_FAULT_AT": str(instant(passed, drawn)), "SDRUN_FAULT_LOG": str(points)}
        ended = sdrun(folder, words, **fault)
        if ended.code == -signal.SIGKILL:
            at.append(points.read_text().splitlines()[-1])
            record_property("killed at", at)
            continue
        # A continued run passes fewer points than a whole one, so it may end although it was to be killed.
        assert ended.code == 0, ended.err
        assert_same(*(run_of(each / "outputs", *words) for each in (undisturbed, folder)))
        record_property("runs", runs)
        if enough:
            return
        runs += 1


def instant(passed: list[str], drawn: random.Random) -> int:
    """Which point to be killed at: first a kind, then one of it. Steps are many, but a checkpoint's writing is short."""
    kind = drawn.choice(sorted(set(passed)))
    return drawn.choice([number for number, other in enumerate(passed, start=1) if other == kind])
