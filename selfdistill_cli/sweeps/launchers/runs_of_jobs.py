"""Which run a job of a sweep is, told from its overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.runs.directory import RunDirectory


def directory_of(launcher: Any, overrides: Sequence[str]) -> RunDirectory | None:
    """The run directory of a job of this launcher's sweep.

    None if the job is to be done afresh, or if its configuration is at fault, which the job itself will say.
    """
    try:
        cfg = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
        return None if cfg.rerun else RunDirectory(OmegaConf.masked_copy(cfg, [*SCIENCE, "paths"]))
    except Exception:
        return None


def has_results(launcher: Any, overrides: Sequence[str]) -> bool:
    """Whether the job's run has finished."""
    directory = directory_of(launcher, overrides)
    return directory is not None and directory.results() is not None
