"""Offline records of continued runs are whole, and what cannot go online says why."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from selfdistill_cli.tracking import WandbTracker, weights_and_biases
from tests.helpers.runs import composed

RUN = "0123456789ab-cdef"
ENDED = {"metrics": {"final": {"accuracy": 0.5}}, "best_epoch": 1, "examples_forwarded": 40, "seconds": 1.0}


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in, and nobody listens."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))


def step_row(step: int) -> dict[str, Any]:
    """A row of metrics.jsonl."""
    return {"kind": "train", "step": step, "epoch": step / 10, "loss": 1 / step}


def recorded(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of an offline folder by kind, as Weights & Biases' own reader gives them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(folder), "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[dict[str, Any]]] = {}
    for record in map(json.loads, said.splitlines()):
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def test_the_offline_record_of_a_continued_run_holds_it_from_the_first_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "rte" / "tiny_bert" / "kd" / "0123456789ab"
    cfg = composed("tracking.mode=offline")
    rows = [step_row(step) for step in range(1, 9)]
    (run / "wandb" / f"offline-run-20260101_000000-{RUN}").mkdir(parents=True)  # from before the interruption
    continued = WandbTracker(cfg, run, RUN, None)
    evaluation = {"kind": "eval", "step": 3, "epoch": 0.3, "eval/accuracy": 0.25}
    continued.start(8, [*rows[:3], evaluation])  # of which the checkpoint knows
    for values in rows[3:]:
        continued.row(values)
    with caplog.at_level(logging.INFO, "selfdistill_cli"):
        continued.finish(ENDED)
    (folder,) = run.glob("wandb/offline-run-*")
    found = recorded(folder)
    logged = [row["item"] for row in found["history"]]
    assert [row["_step"] for row in logged] == list(range(1, 9))
    assert [row["train/loss"] for row in logged] == [row["loss"] for row in rows]
    assert logged[2]["eval/accuracy"] == 0.25
    assert not found["run"][0].get("resume")
    assert [each["update"]["final/accuracy"] for each in found["summary"] if "final/accuracy" in each["update"]] == [
        0.5
    ]
    assert f"wandb sync {folder.relative_to(tmp_path)}  #" in caplog.text
    assert "until the interruption" not in caplog.text


def test_what_was_sent_before_an_interruption_stays_a_run_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    made: list[Path] = []

    def init(**settings: Any) -> Any:
        made.append(tmp_path / "wandb" / f"offline-run-20260101_00000{len(made)}-{settings['id']}")
        (made[-1] / "files").mkdir(parents=True)
        disabled = settings["mode"] == "disabled"
        return Mock(starting_step=0, id=settings["id"], dir=str(made[-1] / "files"), disabled=disabled)

    monkeypatch.setattr(wandb, "init", init)

    def begin(mode: str = "offline") -> None:
        WandbTracker(composed(f"tracking.mode={mode}"), tmp_path, RUN, None).start(8, [step_row(1)])

    begin()
    (made[0] / f"run-{RUN}.wandb.synced").touch()  # as `wandb sync` leaves it
    begin()
    begin()
    assert [folder.name.partition("-")[2].partition("-")[2].partition("-")[2] for folder in made] == [
        RUN,
        f"{RUN}-2",
        f"{RUN}-2",
    ]
    assert [folder.exists() for folder in made] == [True, False, True]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    begin("auto")
    assert made[2].exists()  # nothing holds it in its place
    assert f"Weights & Biases has {RUN} until the interruption; the whole run is recorded as {RUN}-2." in caplog.text


@pytest.mark.parametrize(
    ("asked", "key", "host", "mode", "lacks"),
    [
        ("auto", True, True, "online", None),
        ("auto", True, False, "offline", None),
        ("auto", False, True, "offline", None),
        ("online", True, True, "online", None),
        ("online", True, False, "offline", "http://127.0.0.1:9 cannot be reached"),
        ("online", False, True, "offline", "there is no key for http://127.0.0.1:9"),
        ("offline", True, True, "offline", None),
    ],
)
def test_online_needs_a_key_and_a_host(
    asked: str, key: bool, host: bool, mode: str, lacks: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_and_biases, "_has_key", lambda url: key)
    monkeypatch.setattr(weights_and_biases, "reachable", lambda url: host)
    chosen, reason = weights_and_biases.choose_mode(asked)
    assert chosen == mode
    assert (reason or "").startswith(lacks or "")
    assert (reason is None) == (lacks is None)


def test_a_key_that_is_refused_leaves_an_offline_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    modes = []

    def init(**settings: Any) -> Any:
        modes.append(settings["mode"])
        if settings["mode"] == "online":
            raise wandb.errors.AuthenticationError("API key invalid.")
        return Mock(starting_step=0)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: modes.append("forgotten"))
    monkeypatch.setattr(weights_and_biases, "choose_mode", lambda asked: ("online", None))
    with caplog.at_level(logging.WARNING, "selfdistill_cli"):
        WandbTracker(composed("tracking.mode=online"), tmp_path, RUN, None)
    assert modes == ["online", "forgotten", "offline"]
    assert (
        "Weights & Biases refuses the key, which `wandb login --relogin` or WANDB_API_KEY replaces (API key invalid)"
        in caplog.text
    )
