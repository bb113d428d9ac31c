"""A run's directory: what is left of one that was refused, or that was cut off while it was thrown away."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from selfdistill_cli import experiment
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.system.files import write_json
from selfdistill_cli.tracking import MetricsRecorder
from tests.helpers.runs import SMALL, composed


def test_a_refused_run_leaves_no_folder_and_takes_none_that_is_anothers(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    cfg = composed("task=synth_entailment", *SMALL, f"paths.outputs={outputs}", "task.max_length=100000")
    other = RunDirectory(cfg).path.parent.parent / "dcs" / "0123456789"
    for kept in (False, True):
        if kept:
            other.mkdir(parents=True)
        with pytest.raises(UserError, match=r"task\.max_length=100000"):
            experiment.run(cfg)
        folders = sorted(outputs.rglob("*"))
        assert folders == ([*reversed(other.parents[:3]), other] if kept else [])
    assert outputs.is_dir()


def test_a_run_that_is_thrown_away_counts_as_finished_no_more_when_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(composed("task=synth_entailment", *SMALL, f"paths.outputs={tmp_path}"))
    (directory.path / "model").mkdir(parents=True)
    for name in ("config.yaml", "results.json", "run.json"):
        (directory.path / name).write_text("{}")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        directory.clear()
    assert (directory.path / "model").exists()
    assert directory.results() is None


def test_a_full_disk_is_said_once_and_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = RunDirectory(composed(f"paths.outputs={tmp_path}"))
    directory.path.mkdir(parents=True)
    for name in ("train.log", "metrics.jsonl"):
        (directory.path / name).symlink_to("/dev/full")
    recorder = MetricsRecorder(directory.path / "metrics.jsonl", [])
    with pytest.raises(UserError, match="The disk is full"), directory.logging():
        recorder.row({"kind": "train"})
    with contextlib.suppress(UserError, OSError):  # /dev/full cannot be synchronised
        recorder.close(None)
    assert recorder._file.closed
    assert "Traceback" not in capsys.readouterr().err


def test_a_finished_run_says_what_it_was_run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = composed(f"paths.outputs={tmp_path}", "runtime.padding=longest", "runtime.compile=true")
    directory = RunDirectory(ran)
    directory.path.mkdir(parents=True)
    (directory.path / "config.yaml").write_text(OmegaConf.to_yaml(ran, resolve=True))
    write_json(directory.path / "environment.json", {"processor_threads": 2})
    monkeypatch.setattr(directory, "results", lambda: SimpleNamespace(precision="fp32", padding="longest"))
    asked = ran.copy()
    asked.runtime.precision = "bf16"
    asked.runtime.threads = 1
    asked.runtime.compile = False
    asked.runtime.padding = "auto"
    asked.runtime.checkpoint_every = "5 steps"
    assert directory.ran_otherwise(ran) == []
    assert directory.ran_otherwise(asked) == [
        "It was run with runtime.precision=fp32; rerun=true trains it with bf16.",
        "It was run with runtime.compile=true; rerun=true trains it with false.",
        "It was run with runtime.threads=2; rerun=true trains it with 1.",
    ]


def test_a_damaged_run_is_begun_afresh(tmp_path: Path) -> None:
    cfg = composed("task=synth_entailment", *SMALL, f"paths.outputs={tmp_path}", "rerun=true")
    directory = RunDirectory(cfg)
    directory.path.mkdir(parents=True)
    (directory.path / "run.json").write_text('{"key": "012')
    assert not directory.begun_by_this_job()
    assert experiment.run(cfg)["key"] == directory.key
