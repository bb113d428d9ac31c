"""An error in one line, whatever it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdistill_cli import train
from selfdistill_cli.errors import first_line
from selfdistill_cli.tracking import WandbTracker
from tests.helpers.runs import composed


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


@pytest.mark.parametrize(
    ("file", "blamed"),
    [
        ("runs/rte/model.safetensors", True),
        ("runs", True),
        (".", True),  # the folder that runs/ would be made in
        ("data/rte/train.csv", False),
        ("runs.csv", False),
        (None, False),
    ],
)
def test_paths_outputs_is_blamed_for_what_lies_there_alone(
    file: str | None, blamed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "_hydra_main", fail)
    monkeypatch.setattr("sys.argv", ["sdrun", "paths.outputs=runs"])
    with pytest.raises(SystemExit) as ended:
        train.main()
    assert "Permission denied" in str(ended.value.code)
    assert ("paths.outputs=<folder>" in str(ended.value.code)) == blamed
