"""Rounds in which the contenders train one after the other, each time in a new process, and the table of them."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from measured import machine, median, plain, show, spread

from peers.comparison import COMPARISONS, Comparison, prepare, require_data

LONGEST = 120
"""Seconds that a contender may take which is tried once."""
COLUMNS = ("", "ex/s", "from – to", "ratio", "tokens/s", "real", "MB", "wall, s")


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    code: str
    """Of `peers.worker.CONTENDERS`."""
    precision: str
    once: bool = False
    """Tried in the first round alone, since it takes long or is no better."""
    compiles: bool = False
    """In its first steps, so that it is compared in the second half of them."""

    @property
    def ours(self) -> bool:
        """Whether it is `sdrun`."""
        return self.code == "sdrun"

    @property
    def title(self) -> str:
        """Its name with its precision."""
        return f"{self.name}, {self.precision}"


@dataclass(frozen=True)
class Training:
    """What one training took."""

    seconds: float
    """Of its steps."""
    late_seconds: float
    """Of the second half of them."""
    tokens: int
    """Computed, padding included."""
    memory: float
    """At most, 10^6 bytes: of the process, on a card what torch held of it."""
    wall: float
    """From the command to its end: imports, weights, training, a score, saved weights."""


Found = dict[str, list[Training | str]]
"""By contender: what its trainings took, or why there was none."""


def contenders(comparison: Comparison, precisions: Sequence[str], tries: bool = True) -> list[Contender]:
    """Theirs at their best, what was tried for that (left out unless `tries`), and `sdrun`."""
    found = []
    for precision in precisions:
        if comparison.decoder:
            found.append(Contender("SFTTrainer grouped", "sft", precision))
            found.append(Contender("SFTTrainer padding-free", "sft_padding_free", precision, once=True))
        else:
            found.append(Contender("Trainer grouped", "trainer", precision))
        if comparison.compiles:
            found.append(
                Contender("Trainer grouped, compiled", "trainer_compiled", precision, once=True, compiles=True)
            )
        found.append(Contender("sdrun", "sdrun", precision))
    return [one for one in found if tries or not one.once]


def train_once(task: str, contender: Contender, seed: int, home: Path) -> Training | str:
    """One training in a process of its own, or why there was none. A contender that is not tried once must succeed."""
    command = [sys.executable, "-m", "peers.worker", task, contender.code, contender.precision, str(seed), str(home)]
    scripts = Path(__file__).parent.parent
    path = os.pathsep.join([str(scripts), str(scripts.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
            timeout=LONGEST if contender.once else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {LONGEST} s"
    wall = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if contender.once:
            return last[:60]
        raise SystemExit(f"{task}, {contender.title}: {done.stderr[-2000:]}")
    return Training(wall=wall, **json.loads(done.stdout.strip().splitlines()[-1]))


def measure(task: str, every: Sequence[Contender], rounds: int, home: Path) -> tuple[int, Found]:
    """The real tokens of a training, and all trainings of every contender by its title."""
    comparison = COMPARISONS[task]
    real = prepare(comparison, home, rounds)
    found: Found = {}
    for number in range(rounds):
        for contender in every:
            if contender.once and number:
                continue
            taken = train_once(task, contender, number, home)
            found.setdefault(contender.title, []).append(taken)
            said = taken if isinstance(taken, str) else f"{comparison.examples / taken.seconds:.1f} examples/s"
            print(f"{task}, round {number + 1}: {contender.title}: {said}", file=sys.stderr, flush=True)
    return real, found


def rows_of(comparison: Comparison, every: Sequence[Contender], real: int, found: Found) -> list[list[str]]:
    """Of the table; ratios are to the first row's speed in the same round."""
    seconds_of = step_seconds(every, found)
    first = seconds_of[every[0]]
    rows = []
    for contender in every:
        taken, seconds = _trainings(found[contender.title]), seconds_of.get(contender)
        if seconds is None:
            rows.append([contender.title, str(found[contender.title][0]), *[""] * (len(COLUMNS) - 2)])
            continue
        speeds = [comparison.examples / each for each in seconds]
        ratios = [base / each for base, each in zip(first, seconds, strict=False)]
        used = min(1.0, real / statistics.mean(one.tokens for one in taken))
        rows.append(
            [contender.title, median(speeds), spread(speeds), median(ratios), plain(real / statistics.median(seconds)),
             f"{used:.0%}", plain(max(one.memory for one in taken)), median([one.wall for one in taken])]
        )  # fmt: skip
    return rows


def step_seconds(every: Sequence[Contender], found: Found) -> dict[Contender, list[float]]:
    """Of the steps of each training; of a contender that compiles, as if all were like those of the second half.

    Compared with the first contender, whose halves hold the same examples. Those that never trained are left out.
    """
    first = _trainings(found[every[0].title])
    seconds = {}
    for contender in every:
        pairs = list(zip(first, _trainings(found[contender.title]), strict=False))
        if pairs and contender.compiles:
            seconds[contender] = [base.seconds * one.late_seconds / base.late_seconds for base, one in pairs]
        elif pairs:
            seconds[contender] = [one.seconds for _, one in pairs]
    return seconds


def _trainings(found: Sequence[Training | str]) -> list[Training]:
    return [one for one in found if isinstance(one, Training)]


def sentences(every: Sequence[Contender], found: Found) -> list[str]:
    """Best against best, in words."""
    seconds = {one: statistics.median(taken) for one, taken in step_seconds(every, found).items()}
    ours, theirs = ({one: taken for one, taken in seconds.items() if one.ours is side} for side in (True, False))
    said = [f"best against best: {min(theirs.values()) / min(ours.values()):.2f} x"]
    precisions = list(dict.fromkeys(one.precision for one in every))
    if {"fp32", "bf16"} <= set(precisions):
        mine = min(taken for one, taken in ours.items() if one.precision == "bf16")
        plain_theirs = min(taken for one, taken in theirs.items() if one.precision == "fp32")
        said.append(f"our bf16 against their float32: {plain_theirs / mine:.2f} x")
    for precision in precisions:
        most = {
            side: max(t.memory for one in seconds if one.ours is side and one.precision == precision and not one.once
                      for t in _trainings(found[one.title]))
            for side in (True, False)
        }  # fmt: skip
        said.append(f"memory in {precision}: {most[True] / most[False]:.2f} x theirs")
    return said


def run(asked: argparse.Namespace) -> None:
    """Measure and show all that the command line asked for."""
    comparisons = {task: COMPARISONS[task] for task in asked.task}
    if any(one.decoder for one in comparisons.values()) and find_spec("trl") is None:
        raise SystemExit("SFTTrainer is part of TRL: pip install -e '.[bench]'")
    for one in comparisons.values():
        require_data(one)
    kept = {}
    for task, comparison in comparisons.items():
        every = contenders(comparison, asked.precision, not asked.no_tries)
        with tempfile.TemporaryDirectory() as home:
            real, found = measure(task, every, asked.rounds, Path(home))
        show(COLUMNS, rows_of(comparison, every, real, found), f"{task}, {comparison.model}", asked.markdown)
        print(
            f"{task}, {comparison.model}, batch {comparison.batch}: {asked.rounds} rounds of {comparison.steps} steps, "
            f"every step counted; {'; '.join(sentences(every, found))}.\n"
        )
        trainings = {
            title: [one if isinstance(one, str) else asdict(one) for one in taken] for title, taken in found.items()
        }
        kept[task] = {"examples": comparison.examples, "real_tokens": real, "trainings": trainings}
    where = machine()
    print(where)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": where, "tasks": kept}, indent=2) + "\n", encoding="utf-8")
