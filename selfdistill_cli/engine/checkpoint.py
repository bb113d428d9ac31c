"""Checkpoints: tensors as safetensors, the rest as JSON, a manifest of checksums, renamed into place.

checkpoints/step-00000120/{tensors.safetensors,state.json,manifest.json}
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from selfdistill_cli.system.fault_points import passing
from selfdistill_cli.system.files import new_folder, sha256

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, newest two kept. `may_write` raises if the run is no longer this process's."""

    def __init__(self, folder: Path, may_write: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self.may_write = may_write

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after optimizer step `step`. Raises `UserError` if the disk is full."""
        self.may_write()
        newest = self.folder / f"step-{step:08d}"
        _save_tree(newest, state)
        kept = [folder for folder in self._steps() if folder <= newest][-2:]
        for other in self._steps():
            if other not in kept:  # older, or of a later step and so one that was found damaged
                shutil.rmtree(other, ignore_errors=True)
        passing("old checkpoints removed")

    def load_newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole; damaged ones are named in a warning and passed over."""
        for folder in reversed(self._steps()):
            problem = _damage(folder)
            if problem is None:
                return _load_tree(folder)
            log.warning("checkpoint %s is damaged (%s): going back to the one before", folder.name, problem)
        return None

    def clear(self) -> None:
        """Remove all checkpoints: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that are trained, each once (tied ones too), and buffers; not the fixed weights under LoRA."""
    kept = set(model.state_dict())
    trained: dict[str, Tensor] = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if name in kept}


def load_trained_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Take back what `trained_weights` gave. Raises `KeyError` if it was of another model."""
    own = trained_weights(model)
    if own.keys() != weights.keys():
        raise KeyError(f"weights of another model: {sorted(own.keys() ^ weights.keys())[:3]} …")
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def tensor_bytes(state: Any) -> int:
    """Bytes of all tensors in a checkpoint's state."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    entries = state.values() if isinstance(state, dict) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(tensor_bytes, entries))


def _save_tree(path: Path, tree: dict[str, Any]) -> None:
    tensors: dict[str, Tensor] = {}
    structure = _pack(tree, tensors)
    _copy_shared(tensors)
    with new_folder(path) as folder:
        save_file(tensors, folder / "tensors.safetensors")
        (folder / "state.json").write_text(json.dumps(structure))
        manifest = {file.name: sha256(file) for file in sorted(folder.iterdir())}
        (folder / "manifest.json").write_text(json.dumps(manifest))


def _load_tree(path: Path) -> dict[str, Any]:
    tensors = load_file(path / "tensors.safetensors")
    tree = _unpack(json.loads((path / "state.json").read_text()), tensors)
    assert isinstance(tree, dict)
    return tree


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return "its manifest is missing or unreadable"
    for name, expected in manifest.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256(folder / name) != expected:
            return f"{name} does not match its checksum"
    return None


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for `value`, its tensors moved into `tensors` under numbered names."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, tensors), _pack(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(entry, tensors) for entry in value]}
    if isinstance(value, list):
        return [_pack(entry, tensors) for entry in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}: use tensors, numbers, strings, lists and dicts")


def _copy_shared(tensors: dict[str, Tensor]) -> None:
    """Give tensors that share memory, as tied weights do, memory of their own: safetensors refuses the rest."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        if memory in seen:
            tensors[name] = tensor.clone()
        seen.add(memory)


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(entry, tensors) for entry in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "tuple" in value:
            return tuple(_unpack(entry, tensors) for entry in value["tuple"])
        return {_unpack(key, tensors): _unpack(entry, tensors) for key, entry in value["dict"]}
    return value


def random_state() -> dict[str, Any]:
    """The state of every random generator that a run may use."""
    import random

    import numpy as np

    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        # Of this process's card alone: the machine that goes on may show others.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every random generator to what `random_state` gave; those of GPUs that this machine has not are not used."""
    import random

    import numpy as np

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    card = state["cuda"]
    if isinstance(card, list) and card and torch.cuda.is_available():  # of versions that kept those of all cards shown
        card = card[min(torch.cuda.current_device(), len(card) - 1)]
    if isinstance(card, Tensor) and torch.cuda.is_available():
        torch.cuda.set_rng_state(card)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
