"""What a run is: the settings that determine its result, and the key that is their hash.

Two ways of asking for one computation have one key, and a later version that has more options finds the runs of an
earlier one: settings that do nothing at their value are no part of a key, and a user's own files count by content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from selfdistill_cli.config import schema
from selfdistill_cli.config.inputs import FILES
from selfdistill_cli.config.methods import acting_elsewhere, declared, in_keys_though_void, void
from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.errors import UserError
from selfdistill_cli.system.data_files import files_of, format_of
from selfdistill_cli.system.files import file_digest, read_json

SCHEMAS: dict[str, type] = {"model": schema.Model, "task": schema.Task, "schedule": schema.Schedule}
READ_OFF_LABELS = ("classification", "regression")
"""What a task may be whose settings name no kind."""
MODEL_FILES = (".json", ".jinja", ".model", ".py", ".safetensors", ".txt")
"""Endings of the files that make a model and its tokenizer; not its card, which names runs and times."""
ABOUT = "gguf.json"
"""Beside a model that comes from a GGUF file: that file's name, and in which types it holds its weights."""


def effective_schedule(cfg: DictConfig) -> DictConfig:
    """`cfg.schedule` with `method.passes` multiplied into its epochs and steps: what the loop follows."""
    passes = cfg.method.get("passes", 1)
    schedule = cfg.schedule.copy()
    schedule.epochs = round(float(schedule.epochs) * passes, 9)
    if schedule.max_steps is not None:
        schedule.max_steps = math.ceil(round(schedule.max_steps * passes, 6))
    return schedule


def run_key(cfg: DictConfig, kind: str | None = None) -> str:
    """Ten hexadecimal digits that identify what determines a run's result.

    `kind`: what the task turned out to be, where the settings leave it to the labels.
    """
    canonical = json.dumps(scientific_settings(cfg, kind), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def model_slug(name: str) -> str:
    """A model's name as a folder: the last part of a path or Hub id; of a run's model, the run's own name and key."""
    with contextlib.suppress(ValueError, KeyError):  # a name that no file system knows; no results of ours
        folder = model_folder(Path(name))
        run = None if folder is None or folder.name != "model" else read_json(folder.parent / "results.json")
        if run is not None:
            return _slug(f"{run['model']}-{run['method']}-{run['key']}")
    return _slug(name.rstrip("/").rsplit("/", 1)[-1])


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"


def scientific_settings(cfg: DictConfig, kind: str | None = None) -> dict[str, Any]:
    """What a key is made of: resolved settings of the parts in SCIENCE, as plain values, files by their digests.

    Without settings at their neutral value, and without those that another one makes void: `epochs` beside
    `max_steps`, all of LoRA without a rank, a teacher's epochs where its path is given, what a method has for other
    kinds of task, a share of which nothing is held out. `kind`: as of `run_key`.
    """
    parts = {name: cfg[name] for name in SCIENCE}
    parts["schedule"] = effective_schedule(cfg)
    settings = {name: _settings(part, _schema_of(name, part)) for name, part in parts.items()}
    cache = Path(cfg.paths.cache).absolute() if "paths" in cfg else None
    schedule, model, task, method = (settings[name] for name in ("schedule", "model", "task", "method"))
    if "max_steps" in schedule:
        schedule.pop("epochs", None)
    if "rank" not in model.get("lora", {}):
        model.pop("lora", None)
    model["name"] = _model_content(Path(cfg.model.name), cache) or cfg.model.name
    for name in (*FILES, "added"):
        if name in task:
            task[name] = _file_content(Path(task[name]), cache)
    stands = in_keys_though_void(cfg.method)
    for name in ("passes", *void(cfg.method), *acting_elsewhere(cfg.method, cfg.task.get("kind") or kind)):
        if name in stands:
            method[name] = stands[name]
        else:
            method.pop(name, None)
    task.pop("strict", None)  # refuses or says, and changes nothing
    if "answer" not in task and "messages" not in task:  # nothing is written, so there is no conversation
        task.pop("chat_template", None)
    if "selection" not in task:
        task.pop("selection_share", None)
    path = OmegaConf.select(cfg, "method.teacher.path")
    if path is not None:
        method["teacher"].pop("epochs", None)
        method["teacher"]["path"] = _model_content(Path(path), cache) or str(path)
    return settings


# --- settings at their neutral value --------------------------------------------------------------


def _schema_of(name: str, part: Any) -> type | None:
    """The dataclass that declares a part's settings, also where a plain copy of the configuration has lost it."""
    if not isinstance(part, DictConfig):
        return None
    typed = OmegaConf.get_type(part)
    if dataclasses.is_dataclass(typed):
        return typed
    return declared(part) if name == "method" else SCHEMAS.get(name)


def _settings(node: Any, declared: type | None) -> Any:
    """Plain values of a node. Below a known schema, settings that do nothing are left out.

    Mappings that no schema knows (a model's own configuration, renamed columns, a plugin without a schema) are kept
    whole: what null or an empty list means there is not ours to say.
    """
    if isinstance(node, ListConfig):
        return [_settings(value, None) for value in node]
    if not isinstance(node, DictConfig):
        return int(node) if isinstance(node, float) and node.is_integer() else node
    if declared is None:
        return {str(key): _value(node, key, None) for key in node}
    neutral, below = _neutral_values(declared), _schemas_below(declared)
    kept = {name: _value(node, name, below.get(name)) for name in map(str, node)}
    return {
        name: value
        for name, value in kept.items()
        if value is not None and value != {} and value != [] and (name not in neutral or value != neutral[name])
    }


def _value(node: DictConfig, name: Any, declared: type | None) -> Any:
    if OmegaConf.is_missing(node, name):
        return "???"
    value = node[name]
    typed = OmegaConf.get_type(value) if isinstance(value, DictConfig) else None
    return _settings(value, typed if dataclasses.is_dataclass(typed) else declared)


@lru_cache(maxsize=64)
def _neutral_values(declared: type) -> Mapping[str, Any]:
    """By name, the values at which settings do nothing, as the schema declares them."""
    fields = dataclasses.fields(declared)
    return {field.name: field.metadata["neutral"] for field in fields if field.metadata.get("neutral") is not None}


@lru_cache(maxsize=64)
def _schemas_below(declared: type) -> Mapping[str, type]:
    """By name, the dataclasses that declare nested settings."""
    found = {}
    for name, hint in typing.get_type_hints(declared).items():
        for option in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                found[name] = option
    return found


# --- a user's own files ---------------------------------------------------------------------------


def _file_content(path: Path, cache: Path | None) -> Any:
    """A file by its bytes and how they are read. One that is not there by its name: reading it will say so."""
    path = path.expanduser()
    with contextlib.suppress(OSError, UserError):
        files = files_of(path)
        digests = [file_digest(file, cache) for file in files]
        # One file has the key that it had before several could be read.
        return {"format": f".{format_of(files[0])}", "sha256": digests[0] if len(files) == 1 else digests}
    return str(path)


def _model_content(path: Path, cache: Path | None) -> Any:
    """A folder with a model, a run's directory that has one, or a GGUF file, by its bytes; None of anything else."""
    if path.suffix == ".gguf" and path.expanduser().is_file():
        return {"sha256": file_digest(path.expanduser(), cache)}
    folder = model_folder(path)
    if folder is None:
        return None
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and entry.suffix in MODEL_FILES)
    files = [entry for entry in files if entry.name != ABOUT and not entry.name.startswith(".")]
    content = {entry.name: file_digest(entry, cache) for entry in files}
    return {"sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}


def model_folder(path: Path) -> Path | None:
    """Where a local model lies: in `path`, or in model/ below it if that is a run's directory; None if nowhere."""
    path = path.expanduser()
    with contextlib.suppress(ValueError):  # a name that no file system knows
        for folder in (path / "model", path):
            if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
                return folder
    return None
