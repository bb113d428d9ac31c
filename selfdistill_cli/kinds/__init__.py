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
from selfdistill_cli.kinds.labelled import ReadOffLabels
from selfdistill_cli.kinds.multiple_choice import MultipleChoice
from selfdistill_cli.kinds.regression import Regression
from selfdistill_cli.kinds.settings import require_used

if TYPE_CHECKING:
    from selfdistill_cli.tasks import TaskData

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Classification(), Regression(), Generation(), MultipleChoice())}
"""By the names of `task.kind`."""
USERS = {key: [kind.name for kind in KINDS.values() if key in kind.uses] for one in KINDS.values() for key in one.uses}
"""Of each setting of a task that not every kind reads, the kinds that do."""


def check(cfg: DictConfig) -> None:
    """Raise `UserError` unless every setting is one that a run of this kind of task can be made from."""
    check_settings(cfg)
    kind = kind_of(cfg.task)
    kind.check(cfg)
    require_used(cfg.task, kind.name, kind.uses, USERS)


def kind_of(task: DictConfig) -> Kind:
    """The kind that a task's settings name. Raises `UserError` if there is no such kind.

    Where it is read off the labels it is one of those that a head labels; which one is known, and checked again, when
    the data is.
    """
    if task.kind is None:
        return ReadOffLabels()
    if task.kind not in KINDS:
        raise UserError(f"task.kind={task.kind}: allowed are {', '.join(KINDS)}.{did_you_mean(task.kind, KINDS)}")
    return KINDS[task.kind]


def check_task(kind: Kind, task: DictConfig) -> None:
    """Raise `UserError` unless a task of this kind has what it needs, and no setting that the kind would ignore."""
    kind.check_task(task)
    require_used(task, kind.name, kind.uses, USERS)


def load_task(settings: DictConfig, data_dir: str, seed: int, cache: Path | None = None) -> TaskData:
    """A task's data, with its kind; see `selfdistill_cli.tasks.data.load`."""
    from selfdistill_cli.tasks.data import load

    return _checked(load(settings, KINDS, data_dir, seed, cache))


def load_validation(settings: DictConfig, data_dir: str, cache: Path | None = None) -> TaskData:
    """The validation splits of a task alone, with its kind; see `selfdistill_cli.tasks.data.load_validation_alone`."""
    from selfdistill_cli.tasks.data import load_validation_alone

    return _checked(load_validation_alone(settings, KINDS, data_dir, cache))


def _checked(data: TaskData) -> TaskData:
    """The same data. Raises `UserError` if the settings do not go with what it turned out to be."""
    check_task(data.kind, data.settings)
    data.kind.check_data(data)
    return data


__all__ = ["KINDS", "Kind", "check", "check_task", "kind_of", "load_task", "load_validation"]
