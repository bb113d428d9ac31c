"""Kill real `sdrun` processes at seeded random instants, give the command again, compare with a run left alone.

Every point that a run passes (fault_injection.passing) is counted in an undisturbed run first; then one of
them after the other is drawn by a seeded generator and the process killed there, as `kill -9` does, until
the run has been killed so often, and then it is left to end. Weights, metrics.jsonl, results.json and
predictions must be those of the undisturbed run, byte for byte where they hold no times.

SDRUN_CRASH_KILLS=40 (per method and kind of task: 4) makes it the nightly size; the default is one each.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

from tests.conftest import SMALL, Finished, call_sdrun, rows, user_environment, without_times

METHODS = ("vanilla", "static_sd", "dynsdpb", "dcs", "kd")
TASKS = ("synth_entailment", "synth_similarity")
CASES = [(method, task) for method in METHODS for task in TASKS]
KILLS_PER_CASE = max(1, int(os.environ.get("SDRUN_CRASH_KILLS", 10)) // len(CASES))
EVERY = ("runtime.checkpoint_every=3 steps", "schedule.evaluate_every=4", "method.teacher.epochs=1")


def command(method: str, task: str) -> list[str]:
    """Ten steps with evaluations and checkpoints between them; a teacher of five steps where there is one."""
    teacher = () if method in ("kd", "dcs") else ("method.teacher.epochs=1",)
    return [f"method={method}", f"task={task}", *SMALL, *(word for word in EVERY if word not in teacher)]


def run_of(folder: Path, method: str) -> Path:
    """The run that the command was given for; kd and dcs also leave their teacher's, by vanilla."""
    (found,) = (path.parent for path in (folder / "outputs").glob(f"*/*/{method}/*/config.yaml"))
    return found


@pytest.mark.parametrize(("method", "task"), CASES)
def test_a_killed_run_ends_as_the_undisturbed_one(
    method: str, task: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    points = tmp_path / "points"
    undisturbed.mkdir()
    killed.mkdir()
    words = command(method, task)
    ended = call_sdrun(undisturbed, user_environment(undisturbed) | {"SDRUN_FAULT_LOG": str(points)}, *words)
    assert ended.code == 0, ended.err
    passed = points.read_text().splitlines()

    drawn = random.Random(f"{method} {task}")
    at = []
    for _ in range(KILLS_PER_CASE):
        instant = drawn.randrange(1, len(passed) + 1)
        ended = kill(killed, words, instant)
        if ended.code == 0:  # what was left of the run passed fewer points than that
            break
        assert ended.code == -signal.SIGKILL, ended.err
        at.append(passed[instant - 1] if len(at) == 0 else f"{instant} points on")
    ended = call_sdrun(killed, user_environment(killed), *words)
    assert ended.code == 0, ended.err
    record_property("killed at", ", ".join(at))
    assert at, "nothing was killed"
    assert_same(run_of(undisturbed, method), run_of(killed, method))


def kill(folder: Path, words: list[str], instant: int) -> Finished:
    return call_sdrun(folder, user_environment(folder) | {"SDRUN_FAULT_AT": str(instant)}, *words)


def assert_same(first: Path, second: Path) -> None:
    """The same files, and in each the same bytes where it holds no times."""
    assert [without_times(row) for row in rows(first)] == [without_times(row) for row in rows(second)]
    results = [json.loads((run / "results.json").read_text()) for run in (first, second)]
    assert without_times(results[0]) == without_times(results[1])
    for name in ("model/model.safetensors", "model/config.json", "model/tokenizer.json", "predictions.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    names = [
        sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in (first, second)
    ]
    assert names[0] == names[1]
