"""What conf/ offers, outside of a run's own composition: its groups, its keys, one option by its name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError, did_you_mean


def option(group: str, name: str, own: Sequence[str] = ()) -> DictConfig:
    """What conf/<group>/<name>.yaml, ours or one on the search path of the command, composes to.

    `own`: further places to look in, as Hydra names them. Raises `UserError` with the nearest name if there is none.
    """
    searched = [*(HydraConfig.get().searchpath if HydraConfig.initialized() else ()), *own]
    inside = GlobalHydra.instance().is_initialized()  # a run by hydra.main: then with its --config-dir
    with contextlib.nullcontext() if inside else initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            chosen = compose("config", overrides=[f"{group}={name}", f"hydra.searchpath=[{','.join(searched)}]"])[group]
        except MissingConfigException as error:
            allowed = list(error.options or [])
            raise UserError(
                f"there is no {group} '{name}'.{did_you_mean(name, allowed)} Allowed are {', '.join(allowed)}."
            ) from error
    assert isinstance(chosen, DictConfig)
    return chosen


def groups() -> list[str]:
    """The groups that a user chooses from; `base` holds what options share."""
    return sorted(path.name for path in CONF_DIR.iterdir() if path.is_dir() and path.name != "base")


def keys(overrides: list[str]) -> list[str]:
    """Every key of the configuration that the command's group choices give."""
    chosen = [word for word in overrides if re.fullmatch(r"\w+=\w+", word) and word.split("=")[0] in groups()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            cfg = compose("config", overrides=chosen)
        except Exception:  # another part of the command is wrong too; the defaults still give most names
            cfg = compose("config")
    return list(_flatten(cfg, ""))


def _flatten(node: DictConfig, prefix: str) -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _flatten(child, f"{prefix}{key}.")
