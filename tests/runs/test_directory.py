"""A run's directory: what is left of one that was refused."""

from __future__ import annotations

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
