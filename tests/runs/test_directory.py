"""A run's directory: what is left of one that was refused, or that was cut off while it was thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selfdistill_cli import experiment
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.directory import RunDirectory
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


def test_a_damaged_run_is_begun_afresh(tmp_path: Path) -> None:
    cfg = composed("task=synth_entailment", *SMALL, f"paths.outputs={tmp_path}", "rerun=true")
    directory = RunDirectory(cfg)
    directory.path.mkdir(parents=True)
    (directory.path / "run.json").write_text('{"key": "012')
    assert not directory.begun_by_this_job()
    assert experiment.run(cfg)["key"] == directory.key
