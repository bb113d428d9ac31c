"""Runs of earlier versions: what they were before an option was there, so that they stand beside later runs."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from selfdistill_cli.config import schema
from selfdistill_cli.config.methods import methods
from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.reports.runs import Run, Settings, flat


def completed(run: Run) -> Run:
    """The run with the settings that its version did not have yet, at the values at which they do nothing.

    As in a run's key (runs/keys.py): the neutral value of the schema; where it names none, that of conf/, beside
    which the setting is void.
    """
    settings = completed_settings(run.settings)
    return dataclasses.replace(run, settings=settings) if len(settings) > len(run.settings) else run


def completed_settings(settings: Settings) -> Settings:
    """The same of a run's settings."""
    return _known(str(settings.get("method.name")), str(settings.get("method._target_"))) | settings


@lru_cache(maxsize=64)
def _known(method: str, target: str) -> Settings:
    declared = {"task": schema.Task, "model": schema.Model, "schedule": schema.Schedule}
    own: type[Any] | None = next((one for one in methods() if getattr(one, "_target_", None) == target), None)
    if own is not None:
        declared["method"] = own
    neutral = {
        f"{part}.{field.name}": field.metadata["neutral"]
        for part, fields in declared.items()
        for field in dataclasses.fields(fields)
        if field.metadata.get("neutral") is not None
    }
    return _written("task", "base/task") | _written("model", "base/model") | default_settings(method, "") | neutral


@lru_cache(maxsize=256)
def default_settings(method: str, model: str) -> Settings:
    """What conf/ gives a method and the schedule of a model unless something else is asked for; of a plugin, nothing."""
    found = _written("schedule", "schedule/default") | _written("schedule", f"schedule_model/default_{model}")
    return found | _written("method", f"method/{method}")


@lru_cache(maxsize=1)
def default_request() -> str:
    """What self-correction asks for a second attempt unless something else is asked for."""
    return str(_written("self_training", "self_training/correction")["self_training.request"])


@lru_cache(maxsize=1)
def models_of_conf() -> frozenset[str]:
    """The names of the models in conf/: of these everybody has the same weights."""
    found = (_written("model", f"model/{path.stem}") for path in (CONF_DIR / "model").glob("*.yaml"))
    return frozenset(str(one.get("model.name")) for one in found)


def _written(part: str, name: str) -> Settings:
    path: Path = CONF_DIR / f"{name}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    content.pop("defaults", None)
    return flat({part: content}) if content else {}
