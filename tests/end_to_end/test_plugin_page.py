"""The plugin of docs/plugins.md, as it stands there, installed and run."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY, run_command, user_environment
from tests.helpers.runs import SMALL, only_run, rows


def files_of_the_page() -> dict[str, str]:
    """The code blocks of the page, by the file name in their first line."""
    page = (REPOSITORY / "docs" / "plugins.md").read_text()
    blocks = re.findall(r"```\w+\n# (\S+)\n(.*?)```", page, re.DOTALL)
    return dict(blocks)


def test_the_plugin_is_short() -> None:
    written = sum(len(content.strip().splitlines()) for content in files_of_the_page().values())
    assert 10 < written <= 36


def test_the_plugin_installs_and_trains(tmp_path: Path) -> None:
    files = files_of_the_page()
    assert len(files) >= 2
    for name, content in files.items():
        path = tmp_path / "their_project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    installed = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--target", str(installed), str(tmp_path / "their_project")],
        check=True,
    )  # fmt: skip
    environment = user_environment(tmp_path)
    environment["PYTHONPATH"] += f":{installed}"
    command = ("method=confidence_penalty", "method.beta=0.2")  # found by its entry point
    ended = run_command(tmp_path, environment, *command, *SMALL)
    assert ended.code == 0, ended.err
    train = rows(only_run(tmp_path / "outputs", "confidence_penalty"), "train")
    assert train[0]["loss/penalty"] == pytest.approx(-0.2 * 0.693, abs=0.02)  # two classes, undecided: −β log 2
    writes = ("task=synth_arithmetic", "model=tiny_llama", "task.decoding.max_new_tokens=4", "schedule.max_steps=2")
    small = [word for word in SMALL if not word.startswith("model=")]
    ended = run_command(tmp_path, environment, *command, *small, *writes)
    assert ended.code == 0, ended.err
    (run,) = (tmp_path / "outputs").glob("synth_arithmetic/*/confidence_penalty/*")
    entries = json.loads((run / "model" / "config.json").read_text())["vocab_size"]
    found = rows(run, "train")[0]["loss/penalty"]
    assert found == pytest.approx(-0.2 * math.log(entries), rel=0.02)  # an untrained model is undecided among them
    regression = run_command(tmp_path, environment, *command, *SMALL, "task=synth_similarity")
    assert regression.code == 1
    assert "a regression predicts a single number" in regression.err
    wrong = run_command(tmp_path, environment, *command[:1], "method.beta=-1", *SMALL)
    assert wrong.code == 1
    assert wrong.err.endswith("\nsdrun: method.beta=-1: must be at least 0.\n")
