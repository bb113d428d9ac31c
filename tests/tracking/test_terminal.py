"""What a run says: whole words at every width, brackets as they are, the last known score after an interruption."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfdistill_cli.system.words import ScreenHandler, wrapped
from selfdistill_cli.tracking import MetricsRecorder, Terminal
from selfdistill_cli.tracking.terminal import duration, print_results, say
from tests.helpers.screens import TERMINALS, shown

FOLDER = Path("/a/place/for/runs/synth_entailment/tiny_bert/dynsdpb/0123456789ab")
RESULTS: dict[str, Any] = {
    "method": "dynsdpb",
    "task": "reviews[/]",
    "model": "tiny_bert",
    "seed": 0,
    "metrics": {"final": {"accuracy": 0.8125, "accuracy[red]": 0.25, "loss": 0.5}},
    "best_epoch": 2,
    "epochs": 3,
    "examples_forwarded": 12345,
    "seconds": 75,
    "synthetic": True,
    "status": "finished earlier",
}


def train_row(step: int) -> dict[str, Any]:
    """A row of metrics.jsonl."""
    return {"kind": "train", "step": step, "epoch": step / 10, "loss": 0.5, "examples_per_s": 123.4}


@pytest.mark.parametrize("width", [*TERMINALS, None])
def test_the_last_table_of_a_run(width: int | None) -> None:
    others = {"other[red]": {"metric": "accuracy", "score": 0.5}}
    text = shown(lambda console: print_results(console, RESULTS, FOLDER, others), width)
    lines = text.splitlines()
    assert lines[-1] == str(FOLDER)
    assert width is None or max(map(len, lines[:-1])) <= width
    for words in ("reviews[/]", "accuracy[red]", "other[red]", "0.8125", "0.2500", "1 min 15 s", "12,345"):
        assert words in text
    assert "synthetic: compare with nothing but itself" in " ".join(text.split())
    assert "finished earlier; rerun=true does it again" in " ".join(text.split())
    if width is None:
        assert any(line.endswith("finished earlier; rerun=true does it again") for line in lines)


def test_a_run_that_mostly_wrote_answers_says_what_shortens_it() -> None:
    def said(seconds: float) -> str:
        results = RESULTS | {"overhead_seconds": 25.0, "writing": {"seconds": seconds}}
        return shown(lambda console: print_results(console, results, FOLDER, {}), None)

    assert "writing answers in evaluations took 51.0 s of 1 min 40 s: task.validation_examples=<n>" in said(51)
    assert "writing answers" not in said(50)


@pytest.mark.parametrize("width", [50, 80])
def test_lines_are_broken_between_words_on_a_terminal_and_not_at_all_in_a_file(width: int) -> None:
    words = f"dynsdpb on reviews[/] at 12:100:00: tiny_bert, 40 training and 20 validation examples, longer-than-wide; {FOLDER}"
    lines = shown(lambda console: say(console, words), width).splitlines()
    assert [word for line in lines for word in line.split()] == words.split()
    assert all(len(line) <= width or line == str(FOLDER) for line in lines)
    assert shown(lambda console: say(console, words), None) == words + "\n"


def test_a_command_to_be_copied_is_not_broken() -> None:
    assert wrapped("one two three\n  pip install something", 9) == "one two\nthree\n  pip install something"


def test_items_of_a_list_keep_their_indent() -> None:
    said = wrapped("look:\n  - 48 of 48 examples are cut\n  - long/path/that/is/whole", 16)
    assert said == "look:\n  - 48 of 48\n    examples are\n    cut\n  -\n    long/path/that/is/whole"


def test_the_log_on_the_screen_is_broken_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = logging.LogRecord("", logging.INFO, "", 0, "going on after step %d [red]", (7,), None)
    ScreenHandler().emit(record)
    assert capsys.readouterr().err == "going on after step 7 [red]\n"
    monkeypatch.setenv("COLUMNS", "12")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ScreenHandler().emit(record)
    assert capsys.readouterr().err == "going on\nafter step 7\n[red]\n"


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (50, "step 7/10  accuracy[/] 0.2500"),
        (60, "step 7/10  loss 0.5000  accuracy[/] 0.2500"),
        (120, "step 7/10  epoch 0.70  loss 0.5000  accuracy[/] 0.2500  123 ex/s"),
    ],
)
def test_the_progress_line_says_as_much_as_fits(width: int, words: str) -> None:
    def follow(console: Console) -> None:
        terminal = Terminal(console, "accuracy[/]")
        terminal.start(10, [])
        terminal.row({"kind": "eval", "step": 5, "epoch": 0.5, "eval/accuracy[/]": 0.25})
        terminal.row(train_row(7))
        terminal.finish(None)

    text = shown(follow, width)
    assert words in text
    # A terminal shows ^C behind the line: in its last columns it would begin a new one.
    assert max(len(line.rstrip()) for line in text.replace("\r", "\n").splitlines()) <= width - 3


@pytest.mark.parametrize("width", [80, None])
def test_after_an_interruption_the_last_known_score_is_shown(width: int | None, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before = MetricsRecorder(path, [])
    for values in (train_row(5), {"kind": "eval", "step": 5, "epoch": 0.5, "eval/accuracy": 0.75}, train_row(6)):
        before.row(values)
    kept = before.position()
    before.row({"kind": "eval", "step": 10, "epoch": 1.0, "eval/accuracy": 0.5})  # after the checkpoint
    before.close(None)

    def follow(console: Console) -> None:
        recorder = MetricsRecorder(path, [Terminal(console, "accuracy")])
        recorder.rewind(kept)
        recorder.start(10)
        recorder.close(None)

    text = shown(follow, width)
    assert "step 6/10" in text
    assert "accuracy 0.7500" in text
    assert "0.5000  accuracy 0.5000" not in text


def test_durations() -> None:
    assert [duration(seconds) for seconds in (3.21, 125, 4500)] == ["3.2 s", "2 min 05 s", "1 h 15 min"]
