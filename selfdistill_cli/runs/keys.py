"""What a run is: the settings that determine its result, and the key that is their hash."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.schema import SCIENCE


def effective_schedule(cfg: DictConfig) -> DictConfig:
    """`cfg.schedule` with `method.passes` multiplied into its epochs and steps: what the loop follows."""
    passes = cfg.method.get("passes", 1)
    schedule = cfg.schedule.copy()
    schedule.epochs = round(float(schedule.epochs) * passes, 9)
    if schedule.max_steps is not None:
        schedule.max_steps = math.ceil(round(schedule.max_steps * passes, 6))
    return schedule


def run_key(cfg: DictConfig) -> str:
    """Ten hexadecimal digits that identify the resolved scientific settings."""
    canonical = json.dumps(scientific_settings(cfg), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def scientific_settings(cfg: DictConfig) -> dict[str, Any]:
    """The settings that determine a run's result, the same for all ways of asking for one computation."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    settings = {name: resolved[name] for name in SCIENCE}
    settings["schedule"] = OmegaConf.to_container(effective_schedule(cfg), resolve=True)
    settings["method"].pop("passes", None)
    del settings["schedule"]["epochs" if settings["schedule"]["max_steps"] is not None else "max_steps"]
    return settings
