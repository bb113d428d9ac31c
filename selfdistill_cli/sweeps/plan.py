"""What a sweep is going to do, noted before its jobs begin, so that a job can say which of how many it is.

outputs/sweeps/<time>/plan.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.system.files import read_json, write_json

FILE = "plan.json"
SEED = "seed"


@dataclass(frozen=True)
class Plan:
    """How many jobs a sweep has, None if only its sweeper knows; and the settings that it varies."""

    total: int | None
    varied: Sequence[str]
    trials: int = 0
    """So many of the first jobs are trials that choose settings for the others (sweeps/tuned.py)."""

    def stage(self, number: int) -> str:
        """What Hydra's job `number` is for, where there are trials: `trial` or `final`; else empty."""
        return ("trial" if number < self.trials else "final") if self.trials else ""


def note_plan(config: DictConfig, jobs: Sequence[Sequence[str]], first: int) -> None:
    """Note what is known as these jobs are launched, numbered from `first`. `config`: that of the launcher."""
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials")
    total: int | None
    tuned = 0
    if OmegaConf.select(config, "hydra.sweeper.trials"):
        total, tuned = first + len(jobs), first or len(jobs)
    elif trials:
        total = None if "GridSampler" in str(OmegaConf.select(config, "hydra.sweeper.sampler._target_")) else trials
    else:
        in_batches = OmegaConf.select(config, "hydra.sweeper.max_batch_size") is not None
        total = None if in_batches or first else len(jobs)
    varied = searched(config) if trials else varied_settings(jobs)
    write_json(Path(config.hydra.sweep.dir).absolute() / FILE, asdict(Plan(total, varied, tuned)))


def read_plan(sweep_dir: Path) -> Plan | None:
    """What was noted, or None."""
    content = read_json(sweep_dir.absolute() / FILE)
    return None if content is None else Plan(**content)


def name_of(override: str) -> str:
    """`method.tau` of `+method.tau=2`."""
    return override.partition("=")[0].lstrip("+~")


def value_of(override: str) -> str:
    """`2` of `+method.tau=2`; what is deleted has none."""
    return "deleted" if override.startswith("~") else override.partition("=")[2]


def varied_settings(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Names of the settings that are not the same in every job, in their order; all of them in a sweep of one."""
    shared = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return list(dict.fromkeys(name_of(word) for job in jobs for word in job if word not in shared))


def searched(config: DictConfig) -> list[str]:
    """The settings of which a sweep tries several values: those that are given a list, a range or a choice."""
    params: dict[str, Any] = OmegaConf.to_container(
        OmegaConf.select(config, "hydra.sweeper.params") or OmegaConf.create(), resolve=True
    )  # type: ignore[assignment]
    words = [*(f"{name}={value}" for name, value in params.items()), *config.hydra.overrides.task]
    return list(dict.fromkeys(name_of(word) for word in words if _is_range(word)))


def _is_range(word: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(word).is_sweep_override())
    except HydraException:
        return False
