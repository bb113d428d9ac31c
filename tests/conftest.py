"""Helpers that many tests share: real `sdrun` processes, and runs small enough to be quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from selfdistill_cli.config.schema import CONF_DIR, register_schemas

register_schemas()
REPOSITORY = Path(__file__).parent.parent
SMALL = (
    "model=tiny_bert",
    "model.config.hidden_size=32",
    "model.config.intermediate_size=64",
    "tracking=none",
    "task.generator.train_examples=40",
    "task.generator.validation_examples=20",
    "schedule.batch_size=8",
    "schedule.epochs=2",
    "schedule.lr=1e-3",
)
"""A run of ten steps on a model that trains in a second."""


@dataclass
class Finished:
    """A process that has ended."""

    code: int
    out: str
    err: str


Sdrun = Callable[..., Finished]


def user_environment(folder: Path) -> dict[str, str]:
    """The environment of a user without a network, whose runs land below `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SDRUN_", "WANDB_", "HF_"))}
    return kept | {
        "SDRUN_OUTPUTS": str(folder / "outputs"),
        "SDRUN_DATA": str(folder / "data"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens: a hub that cannot be reached
        "COLUMNS": "160",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",  # two tests run at a time
    }


def call_sdrun(folder: Path, environment: dict[str, str], *arguments: str, timeout: float = 300) -> Finished:
    """Run the real command line in a process of its own, from a folder that is not the repository."""
    command = [sys.executable, "-m", "selfdistill_cli.train", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Finished(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """`user_environment` of this test's folder."""
    return user_environment(tmp_path)


@pytest.fixture
def sdrun(environment: dict[str, str], tmp_path: Path) -> Sdrun:
    """`call_sdrun` in this test's folder; keywords are environment variables."""

    def call(*arguments: str, **variables: str) -> Finished:
        return call_sdrun(tmp_path, {**environment, **variables}, *arguments)

    return call


def started(folder: Path, environment: dict[str, str], *arguments: str, until: str) -> subprocess.Popen[str]:
    """`sdrun` in the background, once a file that `until` names below outputs/ is there and not empty; standard error is a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "selfdistill_cli.train", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in (folder / "outputs").glob(until)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    """The configuration that `sdrun <overrides>` composes."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=hydra)


def only_run(outputs: Path, method: str = "*") -> Path:
    """The one run directory of this method below `outputs`."""
    found = [path.parent for path in outputs.glob(f"*/*/{method}/*/config.yaml")]
    assert len(found) == 1, found
    return found[0]


def rows(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, of one kind or all."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in read if kind is None or row["kind"] == kind]


def results(run: Path) -> dict[str, Any]:
    """What a run's results.json holds."""
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


TIMES = (
    *("examples_per_s", "tokens_per_s", "seconds", "step_seconds", "checkpoint_seconds", "phase_seconds"),
    *("gflops_per_s", "matmul_gflops_per_s", "mfu"),
)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    """A row or result without what depends on the clock."""
    return {name: value for name, value in values.items() if name not in TIMES}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the crash tests did, counted over all of them."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    properties = [dict(report.user_properties) for report in reports]
    crashes = [found for found in properties if "killed at" in found]
    if crashes:
        points = [point for found in crashes for point in found["killed at"]]
        runs = sum(found.get("runs", 0) for found in crashes)
        mismatches = sum(report.failed for report, found in zip(reports, properties, strict=True) if found in crashes)
        terminalreporter.write_line(
            f"crashes: {len(points)} kills at {len(set(points))} kinds of points, each gone on from; "
            f"{runs} runs compared with undisturbed ones, {mismatches} mismatches"
        )
