"""Checkpoints come back as they were, two are kept, damage is found and passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfdistill_cli.engine.checkpoint import Checkpoints, random_state, restore_random_state


def state(value: float) -> dict[str, Any]:
    shared = torch.full((2, 3), value)
    return {
        "model": {"a": shared, "tied": shared},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999), "lr": 1e-3}]},
        "progress": {"step": 3, "best": None, "early": False},
        "bfloat16": torch.ones(2, dtype=torch.bfloat16),
    }


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(3, state(1.5))
    loaded = Checkpoints(tmp_path).load_newest()
    assert loaded is not None
    assert torch.equal(loaded["model"]["tied"], torch.full((2, 3), 1.5))
    assert loaded["optimizer"]["param_groups"] == [{"betas": (0.9, 0.999), "lr": 1e-3}]
    assert list(loaded["optimizer"]["state"]) == [0]
    assert loaded["progress"] == {"step": 3, "best": None, "early": False}
    assert loaded["bfloat16"].dtype == torch.bfloat16


def test_there_is_nothing_to_load_at_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none").load_newest() is None


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 20, 300):
        Checkpoints(tmp_path).save(step, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000020", "step-00000300"]


def flip_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_byte(folder / "tensors.safetensors"),
        lambda folder: (folder / "tensors.safetensors").write_bytes(b"short"),
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=["flipped byte", "cut file", "missing file", "missing manifest"],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0))
    checkpoints.save(2, state(2.0))
    damage(tmp_path / "step-00000002")
    loaded = checkpoints.load_newest()
    assert loaded is not None
    assert float(loaded["model"]["a"][0, 0]) == 1.0
    assert "step-00000002 is damaged" in caplog.text


def test_no_pickle_is_written(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, state(1.0))
    files = {path.name for path in (tmp_path / "step-00000001").iterdir()}
    assert files == {"tensors.safetensors", "state.json", "manifest.json"}
    json.loads((tmp_path / "step-00000001" / "state.json").read_text())


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold set"):
        Checkpoints(tmp_path).save(1, {"method": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_random_generators_go_on_where_they_were() -> None:
    saved = random_state()
    first = torch.rand(3)
    restore_random_state(saved)
    assert torch.equal(first, torch.rand(3))
