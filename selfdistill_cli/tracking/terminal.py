"""What a person sees: a progress line on a terminal, plain lines in a file, a table at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0


def make_console() -> Console:
    """The console of the command: as wide as the terminal; in a file wide enough to keep rows whole."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def say(console: Console, words: str, style: str | None = None) -> None:
    """One line, whole however long it is, so that it can be searched for in a file."""
    console.print(words, markup=False, soft_wrap=True, style=style)


class Terminal:
    """Follows one run. `metric` names the score that is shown."""

    def __init__(self, console: Console, metric: str) -> None:
        self.console = console
        self.metric = metric
        self._loss, self._score, self._speed = "–", "–", 0.0
        self._last_line = 0.0
        self._total = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, total_steps: int) -> None:
        """Show progress towards this many steps."""
        self._total = total_steps
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), TimeRemainingColumn(compact=True), BarColumn(), console=self.console
            )
            self._bar.start()
            self._task = self._bar.add_task(f"step 0/{total_steps}", total=total_steps)

    def row(self, values: dict[str, Any]) -> None:
        """Take a row of metrics.jsonl."""
        if values["kind"] not in ("train", "eval"):  # diagnostics: for reports
            return
        evaluation = values["kind"] == "eval"
        if evaluation:
            self._score = f"{values[f'eval/{self.metric}']:.4f}"
        else:
            self._loss, self._speed = f"{values['loss']:.4f}", values["examples_per_s"]
        words = f"step {values['step']}/{self._total}  epoch {values['epoch']:.2f}  loss {self._loss}  {self.metric} {self._score}  {self._speed:.0f} ex/s"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=values["step"], description=words)
        elif evaluation or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            say(self.console, words)

    def finish(self, results: dict[str, Any] | None) -> None:
        """Take the progress line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def print_results(
    console: Console, results: dict[str, Any], path: Path, evaluations: dict[str, dict[str, Any]]
) -> None:
    """The table that ends a run, with its scores on other tasks."""
    final = results["metrics"]["final"]
    title = f"{results['method']} on {results['task']} ({results['model']}, seed {results['seed']})"
    table = Table(title=title, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in final.items():
        table.add_row(f"validation {name}" if name == "loss" else name, f"{value:.4f}")
    for name, scored in evaluations.items():
        table.add_row(f"on {name}", f"{scored['metric']} {scored['score']:.4f}")
    table.add_row("best epoch", f"{results['best_epoch']:.4g} of {results['epochs']:.4g}")
    table.add_row("examples forwarded", f"{results['examples_forwarded']:,}")
    if results.get("teacher", {}).get("examples_forwarded"):
        table.add_row("by the teacher", f"{results['teacher']['examples_forwarded']:,}")
    table.add_row("time", duration(results["seconds"]))
    if results["synthetic"]:
        table.add_row("data", "synthetic: compare with nothing but itself")
    if results["status"] == "finished earlier":
        table.add_row("status", "finished earlier; rerun=true does it again")
    table.add_row("files", str(shortest(path)))
    console.print(table)


def shortest(path: Path) -> Path:
    """The path as seen from the working directory, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def duration(seconds: float) -> str:
    """`2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
