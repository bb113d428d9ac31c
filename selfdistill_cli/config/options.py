"""One option of a config group by its name, outside of a run's own composition."""

from __future__ import annotations

import contextlib

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError, did_you_mean


def option(group: str, name: str) -> DictConfig:
    """What conf/<group>/<name>.yaml, ours or one on the search path of the command, composes to.

    Raises `UserError` with the nearest name if there is none.
    """
    searched = list(HydraConfig.get().searchpath) if HydraConfig.initialized() else []
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
