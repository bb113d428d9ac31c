"""Weights & Biases: offline without a question, one run for a continued run, no secret on the disk."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.processes import Sdrun
from tests.helpers.runs import SECRET, SMALL, only_run

TRACKED = tuple(word for word in SMALL if word != "tracking=none")


def test_without_a_network_it_is_offline_even_with_a_key_and_the_key_stays_secret(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun(
        "method=dynsdpb", *TRACKED, WANDB_API_KEY=SECRET, WANDB_BASE_URL="http://127.0.0.1:9", SDRUN_SECRET=SECRET
    )
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs")
    (record,) = run.glob("wandb/offline-run-*/*.wandb")
    identity = json.loads((run / "run.json").read_text())["wandb_id"]
    assert identity in record.name
    assert identity.startswith(run.name)
    content = record.read_bytes()
    for word in (
        b"train/loss/kd",
        b"train/tau/mean",
        b"train/tokens_per_s",
        b"eval/accuracy",
        b"final/accuracy",
        b"examples_forwarded",
    ):
        assert word in content, word
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path


def test_trouble_there_never_costs_a_run(sdrun: Sdrun, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise RuntimeError('this installation is broken')\n")
    ended = sdrun("method=vanilla", *TRACKED)  # Python looks into the folder that it is called from first
    assert ended.code == 0
    assert "Weights & Biases is off for this run: this installation is broken" in ended.err
