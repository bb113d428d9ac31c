"""Checks on a composed configuration, before anything heavy is imported or loaded."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from selfdistill_cli.config.fields import BOUNDS
from selfdistill_cli.config.memory import check_memory
from selfdistill_cli.config.method_checks import check_method
from selfdistill_cli.config.methods import acting_elsewhere, void
from selfdistill_cli.config.metrics import LOSS
from selfdistill_cli.errors import UserError, did_you_mean

OF_A_GIVEN_FILE = ("custom", "chat")
"""Tasks that are nothing without task.path."""


def check(cfg: DictConfig) -> None:
    """Raise `UserError` unless every value is one that a run can be made from, whatever kind its task is."""
    if cfg.task.name == "custom" and cfg.task.path is None:
        raise UserError("task=custom needs a file: task.path=reviews.csv task.text=<column> task.label=<column>.")
    if cfg.task.name == "chat" and cfg.task.path is None and cfg.task.validation_path is None:
        raise UserError("task=chat needs a file of conversations: task.path=chats.jsonl, with a column messages.")
    check_node(cfg, "")
    _check_name("task.name", cfg.task.name)
    for split in (
        cfg.task.train,
        *cfg.task.validation,
        *(name for name in (cfg.task.train_task, cfg.task.test) if name is not None),
    ):
        _check_name("task.train, task.train_task, task.validation, task.test", split)
    _check_name("method.name", cfg.method.name)
    _check_task(cfg.task)
    _check_splits(cfg)
    check_method(cfg)
    evaluation_steps(cfg.schedule.evaluate_every, steps_per_epoch=1)
    checkpoint_interval(cfg.runtime.checkpoint_every)
    diagnostics_of(cfg.runtime.diagnostics)
    check_memory(cfg)
    if cfg.runtime.compile and cfg.runtime.padding == "none":
        raise UserError(
            "runtime.compile=true with runtime.padding=none: every batch without padding has a form of its own and would "
            "be compiled anew. Leave runtime.padding out, which then is longest, or runtime.compile."
        )
    eval_tasks_of(cfg.eval_tasks)


def check_node(node: DictConfig, path: str) -> None:
    """Hold every structured config below `node` against its dataclass, a plugin's own as well."""
    missing = [f"{path}{key!s}" for key in node if OmegaConf.is_missing(node, key)]
    if missing:
        raise UserError(f"{missing[0]} is required: give it as {missing[0]}=… on the command line.")
    schema = OmegaConf.get_type(node)
    fields: dict[str, dataclasses.Field[Any]] = getattr(schema, "__dataclass_fields__", {})
    for key in map(str, node):
        value = node[key]
        if fields and key not in fields:  # added with a plus
            known = sorted(name for name in fields if not name.startswith("_"))
            raise UserError(
                f"there is no setting {path}{key}.{did_you_mean(key, known)} Allowed are {', '.join(known)}."
            )
        if isinstance(value, DictConfig):
            check_node(value, f"{path}{key}.")
        elif key in fields and value is not None:
            _check_value(f"{path}{key}", value, fields[key].metadata)


def _check_value(path: str, value: Any, allowed: Mapping[str, Any]) -> None:
    choices = allowed.get("choices")
    if choices and value not in choices:
        raise UserError(f"{path}={value}: allowed are {', '.join(choices)}.{did_you_mean(str(value), choices)}")
    if allowed.get("location") and not str(value).strip():
        raise UserError(f"{path}= names nothing: give a file or folder, or leave it out.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path}={value}: must be a finite number.")
    for bound, words, holds in BOUNDS:
        limit = allowed.get(bound)
        if limit is not None and not holds(value, limit):
            raise UserError(f"{path}={value}: must be {words} {limit}.")


def _check_name(path: str, name: str) -> None:
    """Names become folders: no separators, no parent folders."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(
            f"{path}={name}: only letters, digits, '.', '_' and '-' are allowed, because it names a folder."
        )


def _check_task(task: DictConfig) -> None:
    if task.metric and task.metrics and task.metric not in (*task.metrics, LOSS):
        raise UserError(f"task.metric={task.metric} is not among task.metrics={list(task.metrics)}.")
    if not task.validation:
        raise UserError("task.validation names no split: a run needs at least one to be scored on.")


def _check_splits(cfg: DictConfig) -> None:
    """Refuse a choice on the test set, two test sets, and folds of what is not to be divided."""
    task = cfg.task
    if selects_on_test(task) and (cfg.schedule.keep == "best" or cfg.schedule.patience is not None):
        raise UserError(
            f"task.selection=validation: task={task.name} is scored on its test split, which must not choose the epoch. "
            "Take task.selection=held_out (a part of the training split), or schedule.keep=last without "
            "schedule.patience, which chooses nothing."
        )
    if task.test is not None and task.test_path is not None:
        raise UserError(f"task.test={task.test} with task.test_path={task.test_path}: name one test set.")
    if task.test is not None and (task.path is not None or task.generator is not None):
        raise UserError(
            f"task.test={task.test} is a split of a benchmark. For a file of your own: task.test_path=<file>."
        )
    of_the_benchmark = task.path is None and task.validation_path is None
    if task.test_path is not None and "test" in task.validation and of_the_benchmark:
        raise UserError(
            f"task.test_path={task.test_path}: task={task.name} is scored on the benchmark's test split already, and both "
            "would be called test. Score the finished run on the file: sdevaluate <run> --file <file>."
        )
    if task.test is not None and task.test in task.validation:
        raise UserError(f"task.test={task.test} is in task.validation already, so that it would be scored twice.")
    if task.folds is None and task.fold != 0:
        raise UserError(f"task.fold={task.fold} needs task.folds, how many there are: task.folds={task.fold + 1}.")
    if task.folds is not None and task.fold >= task.folds:
        raise UserError(f"task.fold={task.fold}: with task.folds={task.folds} they count from 0 to {task.folds - 1}.")
    if task.folds is not None and (task.path is None or task.validation_path is not None):
        raise UserError(
            f"task.folds={task.folds} divides a file of your own into folds, one of which is validated on: give it as "
            "task.path=<file>, without task.validation_path."
        )


def selects_on_test(task: DictConfig) -> bool:
    """Whether the split that is reported is a benchmark's test set, and chooses as well."""
    own = task.path is not None or task.validation_path is not None
    return task.selection == "validation" and not own and task.validation[0] == "test"


def idle(cfg: DictConfig, given: Iterable[str]) -> list[str]:
    """What to say of settings that were given (their keys) and that another setting makes void."""
    schedule, method, own_file = cfg.schedule, cfg.method, cfg.task.path is not None
    of_own_file = "rows come from task.path, and task.validation_path=<file> names others to be scored on"
    idle = {
        "model.lora": ("model.lora.rank is null: the whole model is trained", cfg.model.lora.rank is None),
        "schedule.epochs": (f"schedule.max_steps={schedule.max_steps} takes its place", schedule.max_steps is not None),
        "schedule.patience": (
            "training ends before so many evaluations",
            schedule.max_steps is None
            and schedule.evaluate_every == "epoch"
            and (schedule.patience or 0) >= schedule.epochs * method.get("passes", 1),
        ),
        "task.selection_share": ("task.selection=validation holds nothing out", cfg.task.selection == "validation"),
        "task.decoding": ("nothing is written", cfg.task.kind not in (None, "generation")),
        **dict.fromkeys(("task.train", "task.train_task"), (of_own_file, own_file)),
        "task.validation": (
            of_own_file if own_file else f"task.validation_path={cfg.task.validation_path} is scored in its place",
            own_file or cfg.task.validation_path is not None,
        ),
        "self_training.request": ("it is for self_training=correction", cfg.self_training.name != "correction"),
        "method.teacher.epochs": (
            "the teacher is method.teacher.path",
            bool((method.get("teacher") or {}).get("path")),
        ),
        "method.teacher.top_k": ("it is for written answers", cfg.task.kind in ("classification", "regression")),
    }
    for name, where in acting_elsewhere(method, cfg.task.kind).items():
        idle[f"method.{name}"] = f"it is for {where}", True
    for name, other in void(method).items():
        idle[f"method.{name}"] = f"method.{other} does without it", True
    return [
        f"{key} does nothing here: {reason}."
        for key in given
        for name, (reason, holds) in idle.items()
        if holds and (key == name or key.startswith(f"{name}."))
    ]


def evaluation_steps(evaluate_every: Any, steps_per_epoch: int) -> int:
    """How many optimizer steps lie between evaluations: `epoch`, a fraction of one, or a number of steps.

    Raises `UserError` on anything else.
    """
    if evaluate_every == "epoch":
        return steps_per_epoch
    if isinstance(evaluate_every, int) and not isinstance(evaluate_every, bool) and evaluate_every >= 1:
        return evaluate_every
    if isinstance(evaluate_every, float) and 0 < evaluate_every < 1:
        return max(1, round(evaluate_every * steps_per_epoch))
    raise UserError(
        f"schedule.evaluate_every={evaluate_every}: allowed are 'epoch', a fraction of an epoch "
        "between 0 and 1 (0.5), or a whole number of steps (200)."
    )


def checkpoint_interval(every: str) -> tuple[float, str]:
    """Parse `2 minutes`, `500 steps` or `1 epochs` into (amount, unit); `auto` gives (0, `auto`).

    Raises `UserError` on anything else.
    """
    if every == "auto":
        return 0, "auto"
    parsed = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(step|minute|epoch)s?\s*", str(every))
    if not parsed or float(parsed[1]) <= 0:
        raise UserError(
            f"runtime.checkpoint_every={every}: allowed are 'auto', or a number and a unit: '2 minutes', '500 steps', "
            "'1 epochs'."
        )
    return float(parsed[1]), parsed[2] + "s"


def _names(asked: Any) -> list[Any]:
    return [] if asked is None else list(asked) if isinstance(asked, ListConfig) else [asked]


def eval_tasks_of(asked: Any) -> list[str]:
    """The names in `eval_tasks`: none, one or a list. Raises `UserError` on what is no name, or names no data."""
    names = _names(asked)
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                f"eval_tasks={name}: allowed are names of tasks: eval_tasks=scitail, eval_tasks=[scitail,snli]."
            )
    require_data_of_their_own("eval_tasks", names)
    return names


def require_data_of_their_own(setting: str, names: Sequence[str]) -> None:
    """Raise `UserError` if a task named by this setting is one whose file and columns are given beside it."""
    for name in names:
        if name in OF_A_GIVEN_FILE:
            raise UserError(
                f"{setting}: {name} has no data by itself, and what is given as task.* is not taken over. Write a task of "
                f"your own, my_conf/task/mine.yaml with path, text and label, and name it: sdrun --config-dir my_conf "
                f"{setting}=…mine…"
            )


DIAGNOSTICS = ("gradients", "examples", "maps")


def diagnostics_of(asked: Any) -> list[str]:
    """The names in `runtime.diagnostics`: none, one or a list. Raises `UserError` on an unknown one."""
    names = _names(asked)
    for name in names:
        if name not in DIAGNOSTICS:
            raise UserError(
                f"runtime.diagnostics={name}: allowed are {', '.join(DIAGNOSTICS)}.{did_you_mean(str(name), DIAGNOSTICS)}"
            )
    return names
