"""What a person sees: a progress line on a terminal, plain lines in a file, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from selfdistill_cli.system.words import lines_of, wrapped

SECONDS_BETWEEN_LINES = 10.0
BAR, BESIDE_THE_WORDS = 5, 17
"""Characters of the shortest bar; of a bar, the time left and three that stay free for the terminal's own ^C, which
would else begin a new line and leave a half of this one behind."""


def make_console() -> Console:
    """The console of the command: as wide as the terminal; in a file nothing is ever broken."""
    return Console(highlight=False, emoji=False, soft_wrap=False)


def say(console: Console, words: str, style: str | None = None) -> None:
    """One line. A terminal gets it broken between words, a file whole, so that it can be searched for."""
    lines = wrapped(words, console.width) if console.is_terminal else words
    console.print(lines, markup=False, emoji=False, soft_wrap=True, style=style)


class Terminal:
    """Follows one run. `metric` names the score that is shown."""

    def __init__(self, console: Console, metric: str) -> None:
        self.console = console
        self.metric = metric
        self._metric_name = "validation loss" if metric == "loss" else metric
        self._loss, self._score, self._speed = "–", "–", 0.0
        self._last_line = 0.0
        self._total = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def start(self, total_steps: int, earlier: Iterable[dict[str, Any]] = ()) -> None:
        """Show progress towards this many steps, from where the `earlier` rows of a continued run end."""
        self._total = total_steps
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                TimeRemainingColumn(compact=True),
                BarColumn(min(40, max(BAR, self.console.width - 80))),
                console=self.console,
                transient=True,
                redirect_stderr=sys.stderr.isatty(),  # what goes to a file stays out of the terminal
            )
            self._task = self._bar.add_task(f"step 0/{total_steps}", total=total_steps)
        last = None
        for last in earlier:
            self._take(last)
        if last is not None:
            self._show(last)
        if self._bar is not None:
            self._bar.start()

    def row(self, values: dict[str, Any]) -> None:
        """Take a row of metrics.jsonl."""
        if values["kind"] not in ("train", "eval"):  # diagnostics: for reports
            return
        self._take(values)
        waited = time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        if self._bar is not None or values["kind"] == "eval" or waited:
            self._show(values)

    def finish(self, results: dict[str, Any] | None) -> None:
        """Take the progress line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _take(self, values: dict[str, Any]) -> None:
        if values["kind"] == "eval":
            self._score = f"{values[f'eval/{self.metric}']:.4f}"
        elif values["kind"] == "train":
            self._loss, self._speed = f"{values['loss']:.4f}", values["examples_per_s"]

    def _show(self, values: dict[str, Any]) -> None:
        step, score = f"step {values['step']}/{self._total}", f"{self._metric_name} {self._score}"
        epoch, loss, speed = f"epoch {values['epoch']:.2f}", f"loss {self._loss}", f"{self._speed:.0f} ex/s"
        if self._bar is None or self._task is None:
            self._last_line = time.monotonic()
            say(self.console, "  ".join([step, epoch, loss, score, speed]))
            return
        shorter = [[step, epoch, loss, score, speed], [step, epoch, loss, score], [step, loss, score], [step, score]]
        room = self.console.width - BESIDE_THE_WORDS
        words = next((parts for parts in shorter if cell_len("  ".join(parts)) <= room), [step])
        self._bar.update(self._task, completed=values["step"], description="  ".join(words))


def print_results(
    console: Console, results: dict[str, Any], path: Path, evaluations: dict[str, dict[str, Any]]
) -> None:
    """The table that ends a run, with its scores on other tasks."""
    facts = [
        (f"validation {name}" if name == "loss" else name, f"{value:.4f}")
        for name, value in results["metrics"]["final"].items()
    ]
    for name, value in (results["metrics"].get("test") or {}).items():
        facts.append((f"test {name}", f"{value:.4f}"))
    for number, before in enumerate(results.get("generations") or ()):
        facts.append((f"generation {number}", f"{results['metric']} {before['score']:.4f} ({before['method']})"))
    if results.get("majority"):
        always = results["majority"]
        facts.append(("majority class", f"{results['metric']} {always['score']:.4f} (always '{always['label']}')"))
    facts += [(f"on {name}", f"{scored['metric']} {scored['score']:.4f}") for name, scored in evaluations.items()]
    facts.append(("best epoch", f"{results['best_epoch']:.4g} of {results['epochs']:.4g}"))
    facts += _choice(results)
    facts.append(("examples forwarded", f"{results['examples_forwarded']:,}"))
    if results.get("teacher", {}).get("examples_forwarded"):
        facts.append(("by the teacher", f"{results['teacher']['examples_forwarded']:,}"))
    facts.append(("time", duration(results["seconds"])))
    if results["synthetic"]:
        facts.append(("data", "synthetic: compare with nothing but itself"))
    if results["status"] == "finished earlier":
        facts.append(("status", "finished earlier; rerun=true does it again"))
    say(console, f"{results['method']} on {results['task']} ({results['model']}, seed {results['seed']})", "bold")
    _print_facts(console, facts)
    for remark in [*(results.get("remarks") or ()), *_what_takes_long(results)]:
        say(console, f"Note: {remark}.", "yellow")
    say(console, str(shortest(path)))


def _what_takes_long(results: dict[str, Any]) -> list[str]:
    """That writing answers took more than half of a run, and what shortens it."""
    writing = (results.get("writing") or {}).get("seconds", 0.0)
    whole = results["seconds"] + (results.get("overhead_seconds") or 0.0)
    if writing <= whole / 2:
        return []
    shorter = shorter_evaluations(results.get("selection_score") is not None)
    return [f"writing answers in evaluations took {duration(writing)} of {duration(whole)}: {shorter}"]


def shorter_evaluations(held_out: bool) -> str:
    """What shortens evaluations, where they score a part of training that is held out or the validation examples."""
    fewer = "a smaller task.selection_share holds out" if held_out else "task.validation_examples=<n> scores"
    return f"{fewer} fewer examples, schedule.evaluate_every=<steps> evaluates less often"


def _choice(results: dict[str, Any]) -> list[tuple[str, str]]:
    """On what the epoch was chosen, where anything was."""
    held_out = results.get("selection_score")
    if held_out is not None:
        return [("chosen on", f"a held-out part of training ({results['metric']} {held_out:.4f})")]
    reported = results.get("selected_on") == "validation"
    return [("chosen on", "the reported split, so its score is a little too good")] if reported else []


def _print_facts(console: Console, facts: Sequence[tuple[str, str]]) -> None:
    """A name and its value a line; a value that does not fit goes on below itself, between words."""
    names = max(cell_len(name) for name, _ in facts)
    room = console.width - names - 4 if console.is_terminal else None
    for name, value in facts:
        first, *rest = lines_of(value, room) if room is not None and room > 0 else [value]
        text = Text.assemble((f"  {name}", "bold"), " " * (names - cell_len(name) + 2), first)
        console.print(text, soft_wrap=True)
        for line in rest:
            console.print(Text(" " * (names + 4) + line), soft_wrap=True)


def shortest(path: Path) -> Path:
    """The path as seen from the working directory, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def duration(seconds: float) -> str:
    """`3.2 s`, `2 min 05 s`, `1 h 15 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def about(seconds: float) -> str:
    """How long something is expected to take: `about 20 s`, `about 4 min`, `about 2.5 h`."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {round(seconds / 60)} min" if seconds < 90 * 60 else f"about {seconds / 3600:.1f} h"
