"""Which run a job of a sweep is, and which others it needs, told from its overrides."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import eval_tasks_of
from selfdistill_cli.config.schema import SCIENCE
from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.system.lease import in_use

BESIDE = ("self_training", "sequence", "eval_tasks")
"""Parts of the configuration that have a job do more than the run that its other settings name."""


def directory_of(launcher: Any, overrides: Sequence[str]) -> RunDirectory | None:
    """The run directory of a job of this launcher's sweep.

    None if the job is to be done afresh, or if its configuration is at fault, which the job itself will say.
    """
    found = _found(launcher, overrides)
    return None if found is None or found[0].rerun else found[1]


def has_results(launcher: Any, overrides: Sequence[str]) -> bool:
    """Whether all that the job would compute is there. Of a job of several runs nobody knows before it has looked at each.

    Not of a damaged run: the job itself will say so, and fail alone.
    """
    found = _found(launcher, overrides)
    if found is None or found[0].rerun or _several(found[0]):
        return False
    cfg, directory = found
    scored = [directory.path / "evaluations" / f"{name}.json" for name in eval_tasks_of(cfg.eval_tasks)]
    with contextlib.suppress(UserError):
        return directory.results() is not None and all(place.is_file() for place in scored)
    return False


def work_of(launcher: Any, overrides: Sequence[str]) -> str | None:
    """What tells a job from one that does something else: sixteen hexadecimal digits. None: its configuration is at fault.

    The key of its run, what makes more runs of it or has it write more, elsewhere, and whether it is done afresh.
    """
    found = _found(launcher, overrides)
    if found is None:
        return None
    cfg, directory = found
    beside = {name: OmegaConf.to_object(cfg[name]) if OmegaConf.is_config(cfg[name]) else cfg[name] for name in BESIDE}
    told = json.dumps([str(directory.path), beside, *(["rerun"] if cfg.rerun else [])], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RunsOfJob:
    """The run that a job is, and the teachers that are trained for it where they are missing."""

    own: RunDirectory | None
    teachers: Sequence[RunDirectory]

    @classmethod
    def of(cls, launcher: Any, overrides: Sequence[str]) -> RunsOfJob:
        """Those of a job of this launcher's sweep; none if its configuration is at fault, which the job itself will say."""
        from selfdistill_cli.teacher import trained_first  # heavy, and only asked for where jobs run side by side

        try:
            cfg = _composed(launcher, overrides)
            teachers, asked = [], [_science(cfg)]
            while asked:  # a teacher may have a teacher
                first = trained_first(asked.pop())
                teachers += [RunDirectory(one) for one in first]
                asked += first
            return cls(RunDirectory(_science(cfg)), teachers)
        except Exception:
            return cls(None, [])

    def paths(self) -> set[Path]:
        """Of all of these runs."""
        return {directory.path for directory in (self.own, *self.teachers) if directory is not None}

    @staticmethod
    def _unfinished(directories: Iterable[RunDirectory]) -> set[Path]:
        missing = set()
        for directory in directories:
            with contextlib.suppress(UserError):  # what is damaged is for the job to say
                if directory.results() is None:
                    missing.add(directory.path)
        return missing

    def would_wait(self, begun: set[Path]) -> bool:
        """Whether the job would wait for another process: for its own run, or for a teacher. `begun`: what this sweep is at."""
        own = [] if self.own is None else [self.own]
        missing = self._unfinished([*own, *self.teachers])
        return bool(missing & begun) or any(in_use(path / "lock") for path in missing | {run.path for run in own})


def _composed(launcher: Any, overrides: Sequence[str]) -> DictConfig:
    cfg: DictConfig = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
    return cfg


def _found(launcher: Any, overrides: Sequence[str]) -> tuple[DictConfig, RunDirectory] | None:
    """A job's configuration and the directory of its run; None if the configuration is at fault."""
    try:
        cfg = _composed(launcher, overrides)
        return cfg, RunDirectory(_science(cfg))
    except Exception:
        return None


def _several(cfg: DictConfig) -> bool:
    """Whether the job is more than one run: rounds of self-training, or stages."""
    return cfg.self_training.name != "none" or bool(cfg.sequence)


def _science(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [*SCIENCE, "paths"])
