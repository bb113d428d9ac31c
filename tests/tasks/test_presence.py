"""Data of a named task that is nowhere is missed before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks import presence
from selfdistill_cli.tasks.presence import require_data
from tests.helpers.processes import REPOSITORY, user_environment
from tests.helpers.runs import composed


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the Hub's libraries, which cannot be reached."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # and restored: who looks for data there without a network sets it
    monkeypatch.setattr(presence, "hub_reachable", lambda: False)
    return tmp_path / "hub"


def test_each_split_is_looked_for_in_the_folder(offline: Path, tmp_path: Path) -> None:
    task = composed("task=rte").task
    (tmp_path / "rte").mkdir()
    (tmp_path / "rte" / "train-00000-of-00001.parquet").touch()
    with pytest.raises(UserError, match="task=rte: there is no validation split"):
        require_data(task, str(tmp_path))
    (tmp_path / "rte" / "validation.csv").touch()  # what it holds is for whoever reads it to say
    require_data(task, str(tmp_path))


def test_what_the_hub_or_its_cache_may_have_is_left_to_whoever_reads_it(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = composed("task=rte").task
    with pytest.raises(UserError, match="there is no train split"):
        require_data(task, str(tmp_path))
    (offline / "datasets" / "nyu-mll___glue").mkdir(parents=True)
    require_data(task, str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(presence, "hub_reachable", lambda: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    require_data(task, str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="there is no train split"):
        require_data(task, str(tmp_path))


def test_generated_tasks_and_own_files_are_looked_for_elsewhere(offline: Path, tmp_path: Path) -> None:
    require_data(composed("task=synth_entailment").task, str(tmp_path))
    require_data(composed("task=custom", "task.path=x.csv", "task.text=a", "task.label=b").task, str(tmp_path))


def test_it_is_said_without_torch(tmp_path: Path) -> None:
    said = "import sys; from selfdistill_cli.train import main\ntry:\n main()\nfinally:\n print('torch' in sys.modules)"
    command = [sys.executable, "-c", said, "task=rte"]
    ended = subprocess.run(command, cwd=tmp_path, env=user_environment(tmp_path), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "False\n"), ended
    assert "there is no train split" in ended.stderr
    assert str(REPOSITORY) not in ended.stderr
