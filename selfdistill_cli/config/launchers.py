"""Types of the launchers' settings; values and their comments live in conf/hydra/launcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from selfdistill_cli.config.fields import number


@dataclass
class Slurm:
    """A SLURM job array; the names are those of hydra-submitit-launcher, the meanings sbatch's."""

    _target_: str = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    submitit_folder: str = MISSING
    name: str = MISSING
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    timeout_min: int = MISSING
    signal_delay_s: int = MISSING
    max_num_timeout: int = MISSING
    nodes: int = MISSING
    tasks_per_node: int = MISSING
    cpus_per_task: int | None = None
    mem_gb: int | None = None
    gpus_per_node: int | None = None
    gres: str | None = None
    array_parallelism: int = MISSING
    setup: list[str] = MISSING
    additional_parameters: dict[str, Any] = MISSING


@dataclass
class Local:
    """Jobs side by side on this machine."""

    _target_: str = "hydra_plugins.selfdistill_cli.SideBySide"
    jobs_per_gpu: int = number(at_least=1)
