"""A running sweep in the terminal: who trains, how far, with which score; who waits, who failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from selfdistill_cli.reports.content import spread
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.tracking.tables import Column, make_table

SECONDS = 3.0


def watch(read: Callable[[], Sequence[Run]], console: Console, rounds: int | None = None) -> None:
    """Show the runs until Ctrl-C, or so many times. In a file, a line whenever something changed."""
    if not console.is_terminal:
        _in_a_file(read, console, rounds)
        return
    with Live(view(read(), console.width), console=console, refresh_per_second=2) as live:
        while rounds is None or rounds > 1:
            time.sleep(SECONDS)
            live.update(view(read(), console.width))
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


def view(runs: Sequence[Run], width: int | None = None) -> RenderableType:
    """What is running and what ended badly, and the scores so far, as they fit this width."""
    unfinished = sorted((run for run in runs if not run.finished), key=lambda r: (r.status != "running", str(r.path)))
    parts: list[RenderableType] = [Text(summary(runs).split(";")[0], style="bold")]
    if unfinished:
        at_work = [
            Column("task", [run.task for run in unfinished], leaves=_if_all_same(run.task for run in unfinished)),
            Column("method", [run.method for run in unfinished]),
            Column("key", [run.path.name for run in unfinished], leaves=1),
            Column("seed", [str(run.seed) for run in unfinished], right=True),
            Column("progress", [_progress(run) for run in unfinished]),
            Column("last score", [_last_score(run) for run in unfinished]),
            Column("state", [run.status for run in unfinished], leaves=3),
        ]
        parts.append(make_table(at_work, width))
        parts += [Text(f"{_name(run)} {run.status}: {run.reason}") for run in unfinished if run.reason]
    best_first = [
        (study.name, group)
        for study in gather(runs).studies
        for group in sorted(study.groups, key=lambda g: -fmean(g.scores))
    ]
    if best_first:
        so_far = [
            Column("study", [name for name, _ in best_first], leaves=_if_all_same(name for name, _ in best_first)),
            Column("method", [group.variant for _, group in best_first]),
            Column("score", [spread(group.scores) for _, group in best_first]),
            Column("seeds", [str(len(group.runs)) for _, group in best_first], right=True),
        ]
        parts += [Text("\nFinished", style="bold"), make_table(so_far, width)]
    return Group(*parts)


def _if_all_same(words: Iterable[str]) -> int:
    """When a column may be left out: early if it says the same in every row, else not at all."""
    return 2 if len(set(words)) == 1 else 0


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
