"""Kinds of task, one file each: which settings, which head, which encoding, which losses, which evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from selfdistill_cli.config.checks import check as check_settings
from selfdistill_cli.errors import UserError, did_you_mean
from selfdistill_cli.kinds.base import Kind
from selfdistill_cli.kinds.classification import Classification
from selfdistill_cli.kinds.generation import Generation
from selfdistill_cli.kinds.multiple_choice import MultipleChoice
from selfdistill_cli.kinds.regression import Regression

if TYPE_CHECKING:
    from selfdistill_cli.tasks import TaskData

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Classification(), Regression(), Generation(), MultipleChoice())}
"""By the names of `task.kind`."""


def check(cfg: DictConfig) -> None:
    """Raise `UserError` unless every setting is one that a run of this kind of task can be made from."""
    check_settings(cfg)
    # Where the kind is read off the labels it is one of those that a head labels; which one is known, and checked
    # again, when the data is.
    name = cfg.task.kind or "classification"
    if name not in KINDS:
        raise UserError(f"task.kind={name}: allowed are {', '.join(KINDS)}.{did_you_mean(name, KINDS)}")
    KINDS[name].check(cfg)


def load_task(settings: DictConfig, data_dir: str, seed: int, cache: Path | None = None) -> TaskData:
    """A task's data, with its kind; see `selfdistill_cli.tasks.data.load`."""
    from selfdistill_cli.tasks.data import load

    return load(settings, KINDS, data_dir, seed, cache)


def load_validation(settings: DictConfig, data_dir: str, cache: Path | None = None) -> TaskData:
    """The validation splits of a task alone, with its kind; see `selfdistill_cli.tasks.data.load_validation_alone`."""
    from selfdistill_cli.tasks.data import load_validation_alone

    return load_validation_alone(settings, KINDS, data_dir, cache)


__all__ = ["KINDS", "Kind", "check", "load_task", "load_validation"]
