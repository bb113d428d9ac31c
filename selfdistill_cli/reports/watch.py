"""A running sweep in the terminal: who trains, how far, with which score; who waits, who failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from selfdistill_cli.reports.content import spread
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import study

SECONDS = 3.0


def watch(read: Callable[[], Sequence[Run]], console: Console, rounds: int | None = None) -> None:
    """Show the runs until Ctrl-C, or so many times. In a file, a line whenever something changed."""
    if not console.is_terminal:
        _in_a_file(read, console, rounds)
        return
    with Live(view(read()), console=console, refresh_per_second=2) as live:
        while rounds is None or rounds > 1:
            time.sleep(SECONDS)
            live.update(view(read()))
            rounds = None if rounds is None else rounds - 1


def _in_a_file(read: Callable[[], Sequence[Run]], console: Console, rounds: int | None) -> None:
    said = ""
    while rounds is None or rounds > 0:
        now = summary(read())
        if now != said:
            console.print(now, markup=False, soft_wrap=True)
            said = now
        rounds = None if rounds is None else rounds - 1
        if rounds != 0:
            time.sleep(SECONDS)


def summary(runs: Sequence[Run]) -> str:
    """`12 runs: 9 finished, 1 running, 2 interrupted; running: …`."""
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    now = "; ".join(f"{_name(run)} at {_progress(run)}" for run in runs if run.status == "running")
    return f"{len(runs)} runs: {told or 'none yet'}" + (f"; {now}" if now else "")


def view(runs: Sequence[Run]) -> RenderableType:
    """What is running and what ended badly, and the scores so far."""
    at_work = Table("run", "seed", "progress", "last score", "state", title=summary(runs).split(";")[0])
    for run in sorted(runs, key=lambda r: (r.status != "running", str(r.path))):
        if run.finished:
            continue
        score = _last_score(run)
        at_work.add_row(
            _name(run), str(run.seed), _progress(run), score,
            run.status + (f": {run.reason}" if run.reason else ""),
        )  # fmt: skip
    so_far = Table("task", "method", "score (seeds)", title="Finished")
    grouped = study(runs)
    for task in grouped.tasks:
        for group in sorted(grouped.of_task(task), key=lambda g: -fmean(g.scores)):
            so_far.add_row(task, group.variant, f"{spread(group.scores)} ({len(group.runs)})")
    return Group(*([at_work] if at_work.row_count else [at_work.title or ""]), so_far)


def _name(run: Run) -> str:
    return f"{run.task} {run.method} {run.path.name}"


def _progress(run: Run) -> str:
    """`epoch 1.25 of 3`, or where the schedule counts steps, `step 40 of 200`."""
    if run.steps_asked is not None:
        return f"step {run.step} of {run.steps_asked}"
    return f"epoch {run.epoch:.2f} of {run.epochs_asked:g}"


def _last_score(run: Run) -> str:
    rows = run.rows.get("eval", [])
    name = next((name for name in rows[-1] if name.startswith("eval/")), None) if rows else None
    return f"{name.removeprefix('eval/')} {rows[-1][name]:.4f}" if name else "–"
