"""Two runs side by side: the settings that differ, the scores, and the step at which their losses part."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.reports.intact import DamagedFileError, read_config, read_rows
from selfdistill_cli.reports.listing import ago, model_of, written_at
from selfdistill_cli.reports.naming import ABSENT
from selfdistill_cli.reports.runs import Run, find_runs, flat
from selfdistill_cli.system.words import counted
from selfdistill_cli.tracking.tables import Column, print_table
from selfdistill_cli.tracking.terminal import say, shortest

CLEARLY = 0.01
"""Losses that differ by this share of the larger one are clearly apart; smaller differences may be rounding."""
BESIDE = ("best_epoch", "epochs", "steps", "examples_forwarded", "seconds")
"""Of results.json, what is shown beside the scores."""


def two_runs(words: Sequence[str], folders: Sequence[Path]) -> tuple[Run, Run]:
    """The runs that two words name: the folder of a run, or the beginning of a key below these folders.

    Raises `UserError` if a word names no run, or several.
    """
    first, second = (_named(word, folders) for word in words)
    return first, second


def _named(word: str, folders: Sequence[Path]) -> Run:
    if Path(word).is_dir():
        below = find_runs([Path(word)])
        if len(below) != 1:
            raise UserError(f"{word} holds {len(below) or 'no'} runs: name the folder of one, or its key.")
        return below[0]
    runs = find_runs([folder for folder in folders if folder.is_dir()])
    found = [run for run in runs if run.path.name.startswith(word)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(map(str, folders))
    if not found:
        near = did_you_mean(word, [run.path.name for run in runs])
        raise UserError(f"there is no folder {word}, and no run below {there} has such a key.{near}")
    named = ", ".join(str(shortest(run.path)) for run in found[:4])
    raise UserError(
        f"{len(found)} runs below {there} have a key that begins with {word}: {named}. Name one by its folder."
    )


def print_difference(a: Run, b: Run, console: Console) -> None:
    """What sets two runs apart, and what came of it."""
    introduce(a, b, console)
    science = differing(_with_seed(a), _with_seed(b))
    science.pop("method._target_", None)  # the name says it
    if science:
        _print_pairs(console, "Settings that differ", "setting", science)
    else:
        say(console, "\nNo setting differs that can change a result.")
    rest = differing(_circumstances(a), _circumstances(b))
    if rest:
        _print_pairs(console, "Differs too, and is no part of what a run is", "circumstance", rest)
    scores = [(name, _scores(a).get(name), _scores(b).get(name)) for name in dict.fromkeys([*_scores(a), *_scores(b)])]
    if scores:
        print_table(console, "\nWhat came out", _score_columns(scores))
    print_partings(a, b, console)


def introduce(a: Run, b: Run, console: Console) -> None:
    """A line for each: which letter it has, what it is and in which state."""
    for letter, run in (("A", a), ("B", b)):
        what = f"{run.method} on {run.task}, {model_of(run)}, seed {run.seed}"
        age = ago(time.time() - written_at(run))
        reason = f": {run.reason}" if run.reason else ""
        say(console, f"{letter}  {shortest(run.path)}  {what}, {run.status} {age} ago{reason}")


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What is not the same in both, in words; – where one has nothing of that name."""
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key, ABSENT) != b.get(key, ABSENT)]
    return {key: (_word(a.get(key, ABSENT)), _word(b.get(key, ABSENT))) for key in keys}


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return "–" if value == ABSENT else f"{value:.6g}" if isinstance(value, float) else str(value)


def _with_seed(run: Run) -> dict[str, Any]:
    return {**run.settings, "seed": run.seed}


def _circumstances(run: Run) -> dict[str, Any]:
    """Of its configuration what changes speed alone; of its environment versions, machine and commit; fingerprints."""
    found: dict[str, Any] = {}
    with suppress(DamagedFileError, KeyError):  # what cannot be read has been told with the run's state
        found |= flat({"runtime": read_config(run.path / "config.yaml")["runtime"]})
    environment = read_environment(run)
    environment |= environment.pop("packages", None) or {}
    found |= {name: value for name, value in environment.items() if name not in ("command", "git_changes")}
    return found | flat({"fingerprints": run.results["fingerprints"]} if run.results.get("fingerprints") else {})


def read_environment(run: Run) -> dict[str, Any]:
    """What its environment.json holds; nothing if there is none that can be read."""
    try:
        content = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _scores(run: Run) -> dict[str, float]:
    final = (run.results.get("metrics") or {}).get("final") or {}
    beside = {name: run.results[name] for name in BESIDE if isinstance(run.results.get(name), (int, float))}
    return {name: value for name, value in final.items() if isinstance(value, (int, float))} | beside


def _print_pairs(console: Console, title: str, name: str, pairs: Mapping[str, tuple[str, str]]) -> None:
    columns = [
        Column(name, list(pairs)),
        Column("A", [a for a, _ in pairs.values()]),
        Column("B", [b for _, b in pairs.values()]),
    ]
    print_table(console, f"\n{title}", columns)


def _score_columns(scores: Sequence[tuple[str, float | None, float | None]]) -> list[Column]:
    def said(name: str, value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value:,.6g}" if name in BESIDE else f"{value:.4f}"

    def difference(name: str, a: float | None, b: float | None) -> str:
        return "–" if a is None or b is None else said(name, b - a)

    return [
        Column("score", [name.replace("_", " ") for name, _, _ in scores]),
        Column("A", [said(name, a) for name, a, _ in scores], right=True),
        Column("B", [said(name, b) for name, _, b in scores], right=True),
        Column("B\u00a0−\u00a0A", [difference(*one) for one in scores], right=True),
    ]


def print_partings(a: Run, b: Run, console: Console) -> None:
    """For the loss and each of its parts that both record: from which step on they differ at all, and clearly."""
    rows_a, rows_b = _train_rows(a), _train_rows(b)
    common = sorted(rows_a.keys() & rows_b.keys())
    if not common:
        say(console, "\nThey have no recorded step in common.")
        return
    names = [
        name for name in rows_a[common[0]] if name.split("/")[0] == "loss" and any(name in rows_b[s] for s in common)
    ]
    found = [(name, parting(rows_a, rows_b, name), parting(rows_a, rows_b, name, CLEARLY)) for name in names]
    if all(first is None for _, first, _ in found):
        say(console, f"\nTheir losses are the same in all {counted(len(common), 'step')} that both recorded.")
        return

    def at(step: int | None, name: str) -> tuple[str, str, str]:
        if step is None:
            return "never", "–", "–"
        return f"{step:,}", f"{rows_a[step][name]:.6g}", f"{rows_b[step][name]:.6g}"

    cells = [at(first, name) for name, first, _ in found]
    columns = [
        Column("loss", [name for name, _, _ in found]),
        Column("parts at step", [step for step, _, _ in cells], right=True),
        Column("A", [value for _, value, _ in cells], right=True),
        Column("B", [value for _, _, value in cells], right=True),
        Column("1\u00a0%\u00a0apart at step", [at(clearly, name)[0] for name, _, clearly in found], right=True),
    ]
    print_table(console, f"\nWhere the losses part, of {counted(len(common), 'step')} that both recorded", columns)


def _train_rows(run: Run) -> dict[int, dict[str, Any]]:
    """Every recorded step, not thinned out."""
    try:
        rows, _, _ = read_rows(run.path / "metrics.jsonl")
    except DamagedFileError:
        return {}
    return {int(row["step"]): row for row in rows.get("train", []) if "step" in row}


def parting(
    a: Mapping[int, Mapping[str, float]], b: Mapping[int, Mapping[str, float]], name: str, share: float = 0.0
) -> int | None:
    """The first step that both recorded in which a value differs by more than this share of the larger; None: in none."""
    for step in sorted(a.keys() & b.keys()):
        if name in a[step] and name in b[step]:
            x, y = a[step][name], b[step][name]
            if x != y and abs(x - y) > share * max(abs(x), abs(y)):
                return step
    return None
