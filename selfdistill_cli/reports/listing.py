"""Runs one a line: key, state, score, age, and what each is by what sets it apart from the others."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from selfdistill_cli.reports.naming import short_key, short_values
from selfdistill_cli.reports.origins import ROUND
from selfdistill_cli.reports.runs import STATUSES, Run
from selfdistill_cli.tracking.tables import GAP, Column, make_table
from selfdistill_cli.tracking.terminal import say

LEAST_ROOM = 30
"""Characters for what a run is; where there are fewer, the metric is left out, then the age, then the ends of the keys."""


def print_list(runs: Sequence[Run], console: Console) -> None:
    """The last written last, where a terminal still shows it. In a file nothing is shortened."""
    runs = sorted(runs, key=written_at)
    what, shared = what_they_are(runs)
    columns = [
        Column("key", [run.path.name for run in runs]),
        Column("state", [run.status for run in runs]),
        Column("score", [f"{run.results['score']:.4f}" if run.finished else "–" for run in runs], right=True),
        Column("age", [ago(time.time() - written_at(run)) for run in runs], right=True),
        Column("metric", [str(run.results.get("metric", "–")) for run in runs]),
    ]
    if console.is_terminal:
        while _room(columns, console) < LEAST_ROOM and len(columns) > 3:
            columns.pop()
        if _room(columns, console) < LEAST_ROOM:
            columns[0] = Column("key", short_keys([run.path.name for run in runs]))
        room = _room(columns, console)
        what = [one if cell_len(one) <= room else set_cell_size(one, max(room, 2) - 1).rstrip() + "…" for one in what]
    columns.append(Column("what", what))
    say(console, counted(runs) + (f"; all: {', '.join(shared)}" if shared else ""), "bold")
    console.print(make_table(columns, console.width if console.is_terminal else None), crop=False)
    for words in told_together(runs):
        say(console, words)


def short_keys(keys: Sequence[str]) -> list[str]:
    """As much of each key's beginning as tells all of them apart, and five characters at least."""
    longest = max(map(len, keys))
    enough = next((n for n in range(5, longest) if len({key[:n] for key in keys}) == len(set(keys))), longest)
    return [key[:enough] for key in keys]


def _room(columns: Sequence[Column], console: Console) -> int:
    return console.width - sum(column.width + GAP for column in columns)


def told_together(runs: Sequence[Run]) -> list[str]:
    """What is to be said of runs that did not finish or were not read whole; the same once, with the runs' keys."""
    keys: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.reason:
            keys[f"{run.status}: {run.reason}"].append(run.path.name)
        for why in run.left_out.values():
            keys[f"read without {why}"].append(run.path.name)
    return [f"{words} ({', '.join(of)})" for words, of in keys.items()]


def counted(runs: Sequence[Run]) -> str:
    """`12 runs: 9 finished, 1 running, 2 interrupted`."""
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {told or 'none yet'}"


def what_they_are(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """For each run its method, what sets it apart from others of its method, task and model, seed, task and model.

    Beside them what is the same for all and said once: the task, the model.
    """
    of_kind: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        of_kind[_kind(run)].append(run)
    varied = {kind: _varied(members) for kind, members in of_kind.items()}
    alike = {place for place in (0, 2) if len(runs) > 1 and len({kind[place] for kind in of_kind}) == 1}

    def told(run: Run) -> str:
        (task, method, model), values = _kind(run), varied[_kind(run)]
        settings = [f"{short_key(key)}={values[key][str(run.settings[key])]}" for key in values if key in run.settings]
        seed = f"seed {run.seed}" if run.settings else ""
        words = [method, *settings, seed, "" if 0 in alike else task, "" if 2 in alike else model]
        return " · ".join(word for word in words if word)

    return [told(run) for run in runs], [_kind(runs[0])[place] for place in sorted(alike)]


def _kind(run: Run) -> tuple[str, str, str]:
    return run.task, run.method, model_of(run)


def _varied(runs: Sequence[Run]) -> dict[str, dict[str, str]]:
    """The settings that these runs do not share, the method's first: by name, their values in words."""
    values: dict[str, list[Any]] = defaultdict(list)
    for run in runs:
        for key, value in run.settings.items():
            values[key].append(value)
    rounds = len(values.get(ROUND, [])) < sum(bool(run.settings) for run in runs)  # round 0 does not have it
    keys = sorted(
        (key for key in values if len(set(map(str, values[key]))) > 1 or (key == ROUND and rounds)),
        key=lambda key: (not key.startswith("method."), key),
    )
    return {key: short_values(values[key]) for key in keys}


def model_of(run: Run) -> str:
    """The model's name, or the last part of its path."""
    return Path(str(run.settings.get("model.name", run.path.parts[-3] if len(run.path.parts) > 3 else "?"))).name


def written_at(run: Run) -> float:
    """When the run last wrote something of its own, in seconds since 1970; 0 if that cannot be told."""
    for name in ("results.json", "metrics.jsonl", "train.log", "."):
        try:
            return (run.path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def ago(seconds: float) -> str:
    """`40 s`, `5 min`, `3 h`, `12 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
