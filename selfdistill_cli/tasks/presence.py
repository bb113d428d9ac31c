"""Whether the data of a named task is anywhere, asked without reading it."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from selfdistill_cli.system.network import hub_reachable
from selfdistill_cli.tasks.sources import find_split, local_split, places_of, reading_of


def require_data(task: DictConfig, data_dir: str) -> None:
    """Raise `UserError` if a split of a named task is neither in the data folder nor to be had from the Hub or its cache."""
    if task.generator is not None or task.path is not None:
        return
    for folder, split, hub in places_of(task, Path(data_dir)):
        if local_split(folder, split) is None and not _may_be_had(hub):
            find_split(task, folder, split, hub, reading_of(task), None)  # which says what is missing


def _may_be_had(hub: DictConfig | None) -> bool:
    """Whether the Hub can be asked, or its caches hold anything of this data set: then whoever reads it will see."""
    if hub is None:
        return False
    offline = {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"} & {
        name for name, value in os.environ.items() if value not in ("", "0")
    }
    if Path(hub.path).is_dir() or (not offline and hub_reachable()):
        return True
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    caches = [Path(os.environ.get(f"HF_{name.upper()}_CACHE", home / name)) for name in ("datasets", "hub")]
    names = hub.path.replace("/", "___"), f"datasets--{hub.path.replace('/', '--')}"
    return any((cache / name).exists() for cache, name in zip(caches, names, strict=True))
