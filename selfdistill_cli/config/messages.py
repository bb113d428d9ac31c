"""Hydra's complaints about a command line, said with the nearest valid name."""

from __future__ import annotations

import dataclasses
import re

import yaml
from hydra.errors import MissingConfigException

from selfdistill_cli.config.launchers import Slurm
from selfdistill_cli.config.options import groups, keys
from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import did_you_mean

OPEN_MAPPINGS = ("model.config", "task.rename", "hydra.launcher.additional_parameters")
"""Settings with names of somebody else's, which no schema knows."""


def explain(error: Exception, overrides: list[str]) -> str:
    """One message for an error of composition: what was wrong, what is allowed, the nearest name."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"there is no {group}={option}.{did_you_mean(option, error.options)} Allowed are {', '.join(error.options)}."
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if unknown:
        for mapping in OPEN_MAPPINGS:
            if unknown[1] == mapping or unknown[1].startswith(f"{mapping}."):
                added = unknown[1] if unknown[1] != mapping else f"{mapping}.<name>"
                return f"{mapping} takes any name, but a new one wants a plus: +{added}=<value>."
        launcher = [f"hydra.launcher.{field.name}" for field in dataclasses.fields(Slurm)]
        of_hydra = unknown[1].startswith("hydra.")
        names = launcher if of_hydra else [*groups(), *keys(overrides)]
        shown_by = "sdrun --cfg hydra hydra/launcher=slurm" if of_hydra else "sdrun --cfg job"
        return f"there is no setting '{unknown[1]}'.{did_you_mean(unknown[1], names)} `{shown_by}` shows them all."
    lines = [line.strip() for line in [*str(error).splitlines(), *str(error.__cause__ or "").splitlines()]]
    # OmegaConf's notes on its own types mean nothing to somebody who typed a value.
    noise = ("reference_type", "object_type", "full_key", "See https")
    return "\n".join(line for line in lines if line and not line.startswith(noise))


def help_text() -> str:
    """What `sdrun --help` prints: conf/hydra/help/sdrun.yaml, where Hydra finds it as well."""
    template: str = yaml.safe_load((CONF_DIR / "hydra" / "help" / "sdrun.yaml").read_text(encoding="utf-8"))["template"]
    return template.replace("$$", "$")
