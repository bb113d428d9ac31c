"""From what a step takes to what a run takes: steps, examples, seconds, memory and disk of everything that is left."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfdistill_cli.config.checks import evaluation_steps
from selfdistill_cli.planning.cells import Cell
from selfdistill_cli.planning.costs import FORWARD_SHARE, Cost, Known, Sizes, data_of, kind_of_cost, known_runs, typical
from selfdistill_cli.planning.short_runs import ShortRuns
from selfdistill_cli.runs.keys import effective_schedule
from selfdistill_cli.system.words import counted, for_screen


@dataclass(frozen=True)
class Estimate:
    """Of one run, what is left to do of it."""

    steps: int
    total_steps: int
    """Of the whole run."""
    examples: int
    """Forwarded in training."""
    seconds: float
    memory_mb: float
    run_bytes: float
    """On disk when it has finished."""
    checkpoint_bytes: float
    """On disk while it trains."""
    source: str
    """Where the times come from, in words."""
    evaluation_seconds: float = 0.0
    """Of `seconds`, what the evaluations take."""


@dataclass(frozen=True)
class Plan:
    """Everything that a command would do."""

    cells: Sequence[Cell]
    estimates: Sequence[Estimate | None]
    """One a cell; None of a finished one."""
    ready_seconds: float
    """Of a process before its first run, as far as it was measured."""
    at_once: int
    """Jobs that run side by side."""

    @property
    def left(self) -> list[Estimate]:
        """Of the runs that are not finished."""
        return [estimate for estimate in self.estimates if estimate is not None]

    @property
    def seconds(self) -> float:
        """Of all runs that are left, one after the other, in one process."""
        return sum(estimate.seconds for estimate in self.left) + (self.ready_seconds if self.left else 0)

    @property
    def side_by_side(self) -> int:
        """Jobs that run at once: no more than have anything left to do."""
        return max(1, min(self.at_once, len({job for cell in self.cells if cell.left for job in cell.jobs})))

    @property
    def seconds_side_by_side(self) -> float:
        """The same of so many jobs at once: no less than the longest one, whose teachers and rounds are one after the other."""
        own = {id(cell): one.seconds for cell, one in zip(self.cells, self.estimates, strict=True) if one is not None}
        of_job: dict[int, dict[int, float]] = defaultdict(dict)
        for cell in self.cells:
            for job in cell.jobs:
                of_job[job] |= {id(one): own.get(id(one), 0.0) for one in _with_teachers(cell)}
        longest = max((sum(runs.values()) for runs in of_job.values()), default=0.0)
        return max(self.seconds / self.side_by_side, longest + self.ready_seconds)


def _with_teachers(cell: Cell) -> list[Cell]:
    return [*(one for teacher in cell.first for one in _with_teachers(teacher)), cell]


def plan_of(cells: Sequence[Cell], outputs: Path, scratch: Path, at_once: int = 1) -> Plan:
    """Estimate what is left of these runs: by finished runs of the same kind below `outputs`, else by short ones.

    `scratch`: a folder for the short ones. Raises `UserError` if data or a model that a run needs is not there.
    """
    left = [cell for cell in cells if cell.left]
    cache = str(scratch / "cache")
    known = list(known_runs(outputs, {cell.cfg.task.name for cell in left}, cache)) if left else []
    costs = _Costs(known, scratch)
    logits_of: set[str] = set()
    estimates: list[Estimate | None] = []
    for cell in cells:
        if not cell.left:
            estimates.append(None)
            continue
        sizes = costs.sizes(cell)
        cost, source = costs.of(cell, sizes)
        teachers = {str(teacher.directory.path) for teacher in cell.first} - logits_of
        logits_of |= teachers
        estimates.append(estimate(cell, cost, sizes, source, predictions_of_teachers=len(teachers)))
    return Plan(cells, estimates, costs.ready_seconds, at_once)


class _Costs:
    """What each kind of run takes, found once."""

    def __init__(self, known: Sequence[Known], scratch: Path) -> None:
        self._scratch = scratch
        self._short: ShortRuns | None = None
        self._by_kind: dict[str, tuple[Cost, str]] = {}
        self._sizes = {run.data: run.sizes for run in known}
        for kind in {run.kind for run in known}:
            alike = [run.cost for run in known if run.kind == kind]
            runs = f"{counted(len(alike), 'finished run')} of the kind"
            self._by_kind[kind] = typical(alike), runs

    @property
    def ready_seconds(self) -> float:
        return self._short.ready_seconds if self._short else 0.0

    def sizes(self, cell: Cell) -> Sizes:
        data = data_of(cell.cfg)
        if data not in self._sizes:
            self._sizes[data] = self._short_runs().sizes(cell.cfg)
        return self._sizes[data]

    def of(self, cell: Cell, sizes: Sizes) -> tuple[Cost, str]:
        kind = kind_of_cost(cell.cfg)
        if kind not in self._by_kind:
            print(for_screen(f"timing a few steps of {cell.cfg.method.name} …"), file=sys.stderr, flush=True)
            timed = self._short_runs().timed(cell.cfg, sizes)
            self._by_kind[kind] = timed.known.cost, f"{timed.steps} steps timed now"
        return self._by_kind[kind]

    def _short_runs(self) -> ShortRuns:
        if self._short is None:
            self._short = ShortRuns(self._scratch)
        return self._short


def estimate(cell: Cell, cost: Cost, sizes: Sizes, source: str, predictions_of_teachers: int = 0) -> Estimate:
    """What is left of one run. `predictions_of_teachers`: so many teachers predict the training set for it."""
    from selfdistill_cli.engine.progress import total_steps

    schedule = effective_schedule(cell.cfg)
    fresh = max(1, round(cost.fresh_per_step))
    steps_per_epoch = -(-sizes.train // fresh)
    total = total_steps(schedule, steps_per_epoch)
    every = evaluation_steps(schedule.evaluate_every, steps_per_epoch)
    steps = max(0, total - cell.step)
    evaluations = -(-total // every) - cell.step // every if total else 1
    examples = forwarded(cost, sizes.train, total) * steps / max(1, total)
    predicted = sizes.train * (steps / steps_per_epoch * cost.predicted_per_epoch + predictions_of_teachers)
    evaluation_seconds = (evaluations * sizes.watched + sizes.predicted) * cost.evaluation_seconds
    return Estimate(
        steps=steps,
        total_steps=total,
        examples=round(examples),
        seconds=(examples + FORWARD_SHARE * predicted) * cost.example_seconds
        + evaluation_seconds
        + cost.overhead_seconds,
        memory_mb=cost.memory_mb,
        run_bytes=cost.run_bytes + steps * cost.step_bytes + sizes.predicted * cost.prediction_bytes,
        checkpoint_bytes=cost.checkpoint_bytes,
        source=source,
        evaluation_seconds=evaluation_seconds,
    )


def forwarded(cost: Cost, train: int, steps: int) -> float:
    """Examples that so many steps forward: the fresh ones, and again those of the step before where a method does so."""
    fresh = max(1, round(cost.fresh_per_step))
    epochs, rest = divmod(steps, -(-train // fresh))
    of_epochs = epochs * train + min(train, rest * fresh)
    last = (fresh if rest else train - (-(-train // fresh) - 1) * fresh) if steps else 0
    return cost.passes_at_first * of_epochs + (cost.passes - cost.passes_at_first) * (of_epochs - last)
