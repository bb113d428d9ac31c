"""Checkpoints come back as they were, two are kept, damage is found and passed over."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from selfdistill_cli.engine.checkpoint import Checkpoints, random_state, restore_random_state, tensor_bytes
from selfdistill_cli.errors import UserError


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


def test_a_damaged_one_of_a_later_step_does_not_take_the_place_of_a_whole_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, state(1.0))
    checkpoints.save(20, state(2.0))
    (tmp_path / "step-00000020" / "state.json").unlink()
    assert checkpoints.load_newest() is not None  # step 10; from there on other steps are saved
    checkpoints.save(15, state(1.5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def test_a_full_disk_leaves_the_checkpoint_before_intact(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # what a full disk looks like to a program
    try:
        with pytest.raises(UserError, match=r"disk is full: .*step-00000002 could not be written"):
            checkpoints.save(2, {"model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    loaded = checkpoints.load_newest()
    assert loaded is not None
    assert float(loaded["model"]["a"][0, 0]) == 1.0


def test_nothing_is_written_once_the_run_is_another_process_s(tmp_path: Path) -> None:
    def lost() -> None:
        raise UserError("taken over")

    with pytest.raises(UserError, match="taken over"):
        Checkpoints(tmp_path, may_write=lost).save(1, state(1.0))
    assert list(tmp_path.iterdir()) == []


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


def test_tensor_bytes_counts_every_tensor() -> None:
    assert tensor_bytes(state(1.0)) == (6 + 6 + 1) * 4 + 2 * 2


def test_the_generator_of_an_apple_gpu_is_part_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.tensor([7, 7], dtype=torch.uint8)
    restored: list[torch.Tensor] = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: drawn)
    monkeypatch.setattr(torch.mps, "set_rng_state", restored.append)
    restore_random_state(random_state())
    assert [state.tolist() for state in restored] == [[7, 7]]


def test_of_several_cards_the_generator_of_this_process_s_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    own, restored = torch.tensor([3, 3], dtype=torch.uint8), list[torch.Tensor]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: own)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    saved = random_state()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # of two, where it goes on one is shown
    restore_random_state(saved)
    assert [state.tolist() for state in restored] == [[3, 3]]


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU")
def test_a_run_on_a_processor_goes_on_where_there_is_no_gpu_although_it_began_beside_one() -> None:
    state = torch.tensor([3, 3], dtype=torch.uint8)
    saved = random_state() | {"cuda": state, "mps": state}
    first = torch.rand(3)
    restore_random_state(saved)
    assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize(("kept", "own"), [([], []), ([[1, 1], [2, 2]], [[2, 2]]), ([[1, 1]], [[1, 1]])])
def test_a_checkpoint_with_all_cards_generators_is_taken_up(
    kept: list[list[int]], own: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As versions before wrote it; on a processor there were none."""
    restored = list[torch.Tensor]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    restore_random_state(random_state() | {"cuda": [torch.tensor(one, dtype=torch.uint8) for one in kept]})
    assert [state.tolist() for state in restored] == own
