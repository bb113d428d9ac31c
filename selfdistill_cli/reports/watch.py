"""A running sweep in the terminal: who trains, how far, with which score; who waits, who failed."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.content import spread
from selfdistill_cli.reports.listing import counted, told_together
from selfdistill_cli.reports.origins import Found
from selfdistill_cli.reports.runs import Run, read_run, read_runs
from selfdistill_cli.reports.search import search
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.sweeps.plan import read_plan
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system import words
from selfdistill_cli.tracking.tables import Column, make_table

SECONDS = 3.0
SWEEPS = 3
"""How many of the newest sweeps are told."""


def watch(
    read: Callable[[], Sequence[Run]],
    console: Console,
    rounds: int | None = None,
    sweeps: Callable[[], Sequence[str]] = list,
) -> None:
    """Show the runs until Ctrl-C, or so many times. In a file, a line whenever something changed."""
    if not console.is_terminal:
        _in_a_file(read, console, rounds, sweeps)
        return
    with Live(view(read(), console.width, sweeps()), console=console, refresh_per_second=2) as live:
        while rounds is None or rounds > 1:
            time.sleep(SECONDS)
            live.update(view(read(), console.width, sweeps()))
            rounds = None if rounds is None else rounds - 1


def _in_a_file(
    read: Callable[[], Sequence[Run]], console: Console, rounds: int | None, sweeps: Callable[[], Sequence[str]]
) -> None:
    said: list[str] = []
    while rounds is None or rounds > 0:
        now = [summary(read()), *sweeps()]
        for line in (line for line in now if line not in said):
            console.print(line, markup=False, soft_wrap=True)
        said = now
        rounds = None if rounds is None else rounds - 1
        if rounds != 0:
            time.sleep(SECONDS)


class Reader:
    """The runs below some folders, read again and again: a finished one once, as long as its results are the same."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._finished: dict[Path, tuple[int, Run]] = {}

    def __call__(self) -> list[Run]:
        """All runs as they are now."""
        return read_runs(search(self.folders), self._read)

    def _read(self, folder: Path, beside: Found) -> Run:
        written = (folder / "results.json").stat().st_mtime_ns if (folder / "results.json").is_file() else 0
        earlier, run = self._finished.get(folder, (0, None))
        if run is None or earlier != written:
            run = read_run(folder, beside)
            if run.finished:
                self._finished[folder] = written, run
        return run

    def sweeps(self) -> list[str]:
        """The newest sweeps below these folders, a line each: how many jobs are done, and how; why some failed."""
        places = [place for folder in self.folders for place in (folder / "sweeps").glob("*") if place.is_dir()]
        return [line for place in sorted(places, key=lambda place: place.name)[-SWEEPS:] for line in _sweep(place)]


def _sweep(place: Path) -> list[str]:
    try:
        plan, records = read_plan(place), JobRecords(place).all()
    except (UserError, TypeError, ValueError) as error:
        return [f"sweep {place.name}: {error}"]
    counts = Counter(str(record.get("status")) for record in records)
    left = plan.total - len(records) if plan is not None and plan.total is not None else 0
    told = [f"{number} {status}" for status, number in counts.items()] + [f"{left} to come"] * (left > 0)
    jobs = (
        words.counted(plan.total, "job")
        if plan is not None and plan.total is not None
        else f"{words.counted(len(records), 'job')} so far"
    )
    failed: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.get("status") == "failed":
            failed[str(record.get("reason"))].append(str(record.get("job")))
    return [
        f"sweep {place.name}: {jobs}" + (f": {', '.join(told)}" if told else ""),
        *(f"  failed: {reason} (job{'s' * (len(of) > 1)} {', '.join(of)})" for reason, of in failed.items()),
    ]


def summary(runs: Sequence[Run]) -> str:
    """`12 runs: 9 finished, 1 running, 2 interrupted; rte dynsdpb 0123456789 at epoch 1.25 of 3`."""
    now = "; ".join(
        f"{run.task} {run.method} {run.path.name} at {_progress(run)}" for run in runs if run.status == "running"
    )
    return counted(runs) + (f"; {now}" if now else "")


def view(runs: Sequence[Run], width: int | None = None, sweeps: Sequence[str] = ()) -> RenderableType:
    """What is running and what ended badly, and the scores so far, as they fit this width."""
    parts: list[RenderableType] = [Text(counted(runs), style="bold"), *map(Text, sweeps)]
    unfinished = sorted((run for run in runs if not run.finished), key=lambda r: (r.status != "running", str(r.path)))
    if unfinished:
        at_work = [
            Column("task", [run.task for run in unfinished], leaves=_if_all_same(run.task for run in unfinished)),
            Column("method", [run.method for run in unfinished]),
            Column("key", [run.path.name for run in unfinished], leaves=1),
            Column("seed", [str(run.seed) for run in unfinished], right=True),
            Column("progress", [_progress(run) for run in unfinished]),
            Column("last score", [_last_score(run) for run in unfinished], leaves=4),
            Column("state", [run.status for run in unfinished], leaves=3),
        ]
        parts.append(make_table(at_work, width))
        parts += map(Text, told_together(unfinished))
    for study in gather(runs).studies:
        so_far = [
            Column("method", [group.variant for group in study.groups]),
            Column(study.metric, [spread(group.scores) for group in study.groups]),
            Column("seeds", [str(len(group.runs)) for group in study.groups], right=True, leaves=1),
        ]
        parts += [Text(f"\nFinished: {study.name}", style="bold"), make_table(so_far, width)]
    return Group(*parts)


def _if_all_same(of: Iterable[str]) -> int:
    """When a column may be left out: early if it says the same in every row, else not at all."""
    return 2 if len(set(of)) == 1 else 0


def _progress(run: Run) -> str:
    """`epoch 1.25 of 3`, or where the schedule counts steps, `step 40 of 200`; – before its settings were noted."""
    if not run.settings:
        return "–"
    if run.steps_asked is not None:
        return f"step {run.step} of {run.steps_asked}"
    return f"epoch {run.epoch:.2f} of {run.epochs_asked:g}"


def _last_score(run: Run) -> str:
    rows = run.rows.get("eval", [])
    name = next((name for name in rows[-1] if name.startswith("eval/")), None) if rows else None
    return f"{name.removeprefix('eval/')} {rows[-1][name]:.4f}" if name else "–"
