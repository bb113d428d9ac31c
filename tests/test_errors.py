"""An error in one line, whatever it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdistill_cli.errors import first_line
from selfdistill_cli.tracking import WandbTracker
from tests.conftest import composed


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\nmore"), "no"),
        (ValueError("\n\n  at last \nmore"), "at last"),
        (ValueError(), "ValueError"),
        (ValueError(" \n\t\n"), "ValueError"),
        (KeyError("name"), "'name'"),
        (RuntimeError(""), "RuntimeError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_tracking_that_fails_without_words_is_named_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    import wandb

    def fail(**_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(wandb, "init", fail)
    WandbTracker(composed("tracking=wandb", "tracking.mode=offline"), tmp_path, "0", None)
    assert "Weights & Biases is off for this run: TimeoutError" in caplog.text
