"""Settings of a task that only some kinds use, held against the kind: what would be ignored is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.metrics import LOSS, asked_metrics
from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError, did_you_mean

OF_TWO_CLASSES = {"f1": "macro_f1", "precision": "macro_precision", "recall": "macro_recall"}
"""Metrics of class 1 of two, and what takes their place where there are more."""
SHRUNK = frozenset({"max_new_tokens"})
"""Settings that size=one_step makes small whatever the task is: given with a task of another kind they mean nothing."""
OTHER = {"classification": "regression", "regression": "classification"}
"""What labels may be besides, where the kind is read off them."""
OF_GROUPS = "exact_match"
"""The metric over examples that `task.group` puts together."""


def require_used(task: DictConfig, kind: str, uses: frozenset[str], users: Mapping[str, list[str]]) -> None:
    """Raise `UserError` on a setting that this kind of task does not read, and that is not as conf/base/task.yaml has it.

    uses: the settings that it reads; users: of each setting that not every kind reads, the kinds that do.
    """
    for key in sorted(users.keys() - uses):
        changed = _changed(key, OmegaConf.to_container(task, resolve=True)[key], _defaults()[key])  # type: ignore[index, call-overload]
        if changed is not None:
            others = " and ".join(users[key])
            raise UserError(
                f"task.{changed}: a task of {kind} does not use it, only {others} {'does' if len(users[key]) == 1 else 'do'}. "
                f"Leave it out, or give task.kind={users[key][0]}.{_taken_as(task, kind)}"
            )


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    """What all tasks begin with."""
    content: dict[str, Any] = yaml.safe_load((CONF_DIR / "base" / "task.yaml").read_text(encoding="utf-8"))
    return content


def _changed(key: str, value: Any, default: Any) -> str | None:
    """The setting as it was given, `key=value`, or the first below it; None if it is the default."""
    if value == default:
        return None
    if isinstance(value, dict) and isinstance(default, dict) and default:
        changed = (name for name in value if name not in SHRUNK and value[name] != default.get(name))
        return next((f"{key}.{name}={value[name]}" for name in changed), None)
    return f"{key}={value}"


def _taken_as(task: DictConfig, kind: str) -> str:
    """A sentence on what the labels were taken as, where the settings do not say it."""
    other = OTHER.get(kind)
    if task.kind is not None or other is None:
        return ""
    return f" The labels were taken as {kind}: task.kind={other} says otherwise."


def require_metrics(task: DictConfig, kind: str, allowed: Iterable[str]) -> None:
    """Raise `UserError` unless this kind of task has the metrics that the settings name, and what they need."""
    asked, allowed = asked_metrics(task), [*allowed, LOSS]
    for metric in asked:
        if metric not in allowed:
            raise UserError(
                f"task.metrics: there is no metric '{metric}' of {kind}.{did_you_mean(metric, allowed)} "
                f"Allowed are {', '.join(allowed)}.{_taken_as(task, kind)}"
            )


def require_group(task: DictConfig) -> None:
    """Raise `UserError` if the share of groups is asked for without groups. Groups without it stay on one side of a split."""
    if OF_GROUPS in asked_metrics(task) and task.group is None:
        raise UserError(
            f"task.metrics={OF_GROUPS} is the share of groups of examples that are right as a whole: name what a "
            "group has in common, task.group=<column or template>. For single examples take accuracy."
        )


def require_two_classes(metrics: Iterable[str], classes: int, names: Iterable[str]) -> None:
    """Raise `UserError` if a metric of class 1 is asked of a task with another number of classes."""
    for metric in metrics:
        if metric in OF_TWO_CLASSES and classes != 2:
            shown = ", ".join(list(names)[:8])
            raise UserError(
                f"task.metrics: {metric} is that of class 1 of two, and this task has {classes} classes"
                f"{f' ({shown})' if shown else ''}. Take {OF_TWO_CLASSES[metric]}, the mean over all of them."
            )


def text_beside_messages(text: str, messages: str) -> UserError:
    """What is said of a `task.text` of its own where whole conversations are read."""
    return UserError(
        f"task.text={text} does nothing beside task.messages={messages}, the column of whole conversations: leave one of "
        "them out."
    )
