"""Types, bounds and checks of every setting. Values and their comments live in conf/.

A dataclass field says what a key may hold; `check` walks a composed configuration and raises
`UserError` on the first value outside its bounds, before anything heavy is imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from selfdistill_cli.errors import UserError, did_you_mean

PACKAGE_DIR = Path(__file__).parent
CONF_DIR = next(path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir())
"""conf/ inside an installed wheel, or at the top of the repository."""


def number(*, above: float | None = None, at_least: float | None = None, at_most: float | None = None) -> Any:
    """A number within bounds; the value comes from conf/."""
    return dataclasses.field(default=MISSING, metadata={"above": above, "at_least": at_least, "at_most": at_most})


def choice(*allowed: str) -> Any:
    """One of these words; the value comes from conf/."""
    return dataclasses.field(default=MISSING, metadata={"choices": allowed})


# --- model ---------------------------------------------------------------------------------------


@dataclass
class Model:
    name: str = MISSING
    dropout: float | None = number(at_least=0, at_most=0.99)
    trust_remote_code: bool = MISSING
    config: dict[str, Any] = MISSING


# --- task ----------------------------------------------------------------------------------------

METRICS = ("accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "exact_match")


@dataclass
class Hub:
    path: str = MISSING
    config: str | None = None
    revision: str | None = None


@dataclass
class Generator:
    name: str = choice("synth_entailment", "synth_similarity")
    train_examples: int = number(at_least=1)
    validation_examples: int = number(at_least=1)
    seed: int = number(at_least=0)


@dataclass
class Task:
    """What all tasks share; conf/task/_task.yaml gives the values that a task leaves alone."""

    name: str = MISSING
    kind: str | None = dataclasses.field(default=None, metadata={"choices": ("classification", "regression")})
    text: str = MISSING
    text_pair: str | None = None
    label: str = MISSING
    labels: list[str] | None = None
    group: str | None = None
    metrics: list[str] | None = None
    metric: str | None = None
    train: str = MISSING
    train_task: str | None = None
    validation: list[str] = MISSING
    rename: dict[str, str] = MISSING
    hub: Hub | None = None
    train_hub: Hub | None = None
    generator: Generator | None = None
    path: str | None = None
    validation_path: str | None = None
    train_examples: int | None = number(at_least=1)
    max_length: int = number(at_least=4)


# --- method --------------------------------------------------------------------------------------


@dataclass
class Vanilla:
    _target_: str = "selfdistill_cli.methods.Vanilla"
    name: str = MISSING


@dataclass
class StaticSD:
    _target_: str = "selfdistill_cli.methods.StaticSD"
    name: str = MISSING
    tau: float = number(above=0)
    alpha: float = number(at_least=0)
    overlap: str = choice("append", "half", "none")
    start_epoch: float = number(at_least=0)


@dataclass
class DynSDPB:
    _target_: str = "selfdistill_cli.methods.DynSDPB"
    name: str = MISSING
    tau: float = number(above=0)
    alpha: float = number(at_least=0)
    overlap: str = choice("append", "half", "none")
    start_epoch: float = number(at_least=0)
    tau_rule: str = choice("uncertainty", "confidence", "constant")
    alpha_rule: str = choice("discrimination", "certainty", "product", "constant")
    signal: str = choice("previous", "current")
    granularity: str = choice("example", "batch")
    discrimination: str = choice("gold", "margin")


@dataclass
class Teacher:
    epochs: float = number(at_least=0)
    path: str | None = None


@dataclass
class KD:
    _target_: str = "selfdistill_cli.methods.KD"
    name: str = MISSING
    tau: float = number(above=0)
    alpha: float = number(at_least=0, at_most=1)
    teacher: Teacher = MISSING


@dataclass
class DCS:
    _target_: str = "selfdistill_cli.methods.DCS"
    name: str = MISSING
    tau: float = number(above=0)
    alpha: float = number(at_least=0, at_most=1)
    lambda_: float = number(at_least=0)
    factor: str = choice("lambda", "exp")
    reweighting: str = choice("boosting", "reset")
    update: str = choice("epoch", "step")
    weight_on: str = choice("both", "ce", "kd")
    max_weight: float = number(above=1)
    warmup_epochs: int = number(at_least=0)
    discordance_quantile: float = number(at_least=0, at_most=1)
    teacher: Teacher = MISSING


# --- schedule, runtime, tracking, paths ----------------------------------------------------------


@dataclass
class Schedule:
    epochs: float = number(at_least=0)
    max_steps: int | None = number(at_least=1)
    batch_size: int = number(at_least=1)
    optimizer: str = choice("adamw", "adafactor", "sgd")
    lr: float = number(above=0)
    warmup_ratio: float = number(at_least=0, at_most=1)
    scheduler: str = choice("linear", "cosine", "constant")
    weight_decay: float = number(at_least=0)
    max_grad_norm: float | None = number(above=0)
    evaluate_every: Any = MISSING
    patience: int | None = number(at_least=1)
    keep: str = choice("best", "last")
    match_compute: bool = MISSING


@dataclass
class Runtime:
    device: str = choice("auto", "cpu", "cuda", "mps")
    precision: str = choice("fp32", "bf16", "fp16")
    threads: int | None = number(at_least=1)
    token_budget: int = number(at_least=1)
    checkpoint_every: str = MISSING


@dataclass
class Tracking:
    backend: str = choice("wandb", "none")
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    mode: str | None = dataclasses.field(default=None, metadata={"choices": ("auto", "online", "offline")})


@dataclass
class Paths:
    data: str = MISSING
    outputs: str = MISSING
    cache: str = MISSING


@dataclass
class Config:
    model: Model = MISSING
    task: Task = MISSING
    method: Any = MISSING
    """Typed by its own schema, so that a plugin can bring another."""
    schedule: Schedule = MISSING
    runtime: Runtime = MISSING
    tracking: Tracking = MISSING
    paths: Paths = MISSING
    seed: int = number(at_least=0, at_most=2**32 - 1)
    rerun: bool = MISSING


def register_schemas() -> None:
    """Make the dataclasses known to Hydra as `schema/...`, apart from the options that a user chooses."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    groups: dict[str, dict[str, Any]] = {
        "model": {"model": Model},
        "task": {"task": Task},
        "schedule": {"schedule": Schedule},
        "runtime": {"runtime": Runtime},
        "tracking": {"tracking": Tracking},
        "method": {"vanilla": Vanilla, "static_sd": StaticSD, "dynsdpb": DynSDPB, "kd": KD, "dcs": DCS},
    }
    for group, nodes in groups.items():
        for name, node in nodes.items():
            store.store(group=f"schema/{group}", name=name, node=node)


# --- checks --------------------------------------------------------------------------------------


def check(cfg: DictConfig) -> None:
    """Raise `UserError` unless every value is one that a run can be made from."""
    if cfg.task.name == "custom" and cfg.task.path is None:
        raise UserError("task=custom needs a file: task.path=reviews.csv task.text=<column> task.label=<column>.")
    _check_node(cfg, "")
    _check_name("task.name", cfg.task.name)
    for split in (cfg.task.train, cfg.task.train_task, *cfg.task.validation):
        _check_name("task.train, task.train_task, task.validation", split or "none")
    _check_name("method.name", cfg.method.name)
    _check_task(cfg.task)
    _check_method(cfg)
    evaluation_steps(cfg.schedule.evaluate_every, steps_per_epoch=1)
    checkpoint_interval(cfg.runtime.checkpoint_every)


def _check_node(node: DictConfig, path: str) -> None:
    """Hold every structured config below `node` against its dataclass, a plugin's own as well."""
    missing = [f"{path}{key!s}" for key in node if OmegaConf.is_missing(node, key)]
    if missing:
        raise UserError(f"{missing[0]} is required: give it as {missing[0]}=… on the command line.")
    schema = OmegaConf.get_type(node)
    fields: dict[str, dataclasses.Field[Any]] = getattr(schema, "__dataclass_fields__", {})
    for key in map(str, node):
        value = node[key]
        if isinstance(value, DictConfig):
            _check_node(value, f"{path}{key}.")
        elif key in fields and value is not None:
            _check_value(f"{path}{key}", value, fields[key].metadata)


BOUNDS = (
    ("above", "greater than", operator.gt),
    ("at_least", "at least", operator.ge),
    ("at_most", "at most", operator.le),
)


def _check_value(path: str, value: Any, allowed: Mapping[str, Any]) -> None:
    choices = allowed.get("choices")
    if choices and value not in choices:
        raise UserError(f"{path}={value}: allowed are {', '.join(choices)}.{did_you_mean(str(value), choices)}")
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
    for metric in [*(task.metrics or []), *([task.metric] if task.metric else [])]:
        if metric not in METRICS:
            raise UserError(
                f"task.metrics: there is no metric '{metric}'.{did_you_mean(metric, METRICS)} "
                f"Allowed are {', '.join(METRICS)}."
            )
    if task.metric and task.metrics and task.metric not in task.metrics:
        raise UserError(f"task.metric={task.metric} is not among task.metrics={list(task.metrics)}.")
    if not task.validation:
        raise UserError("task.validation names no split: a run needs at least one to be scored on.")


def _check_method(cfg: DictConfig) -> None:
    method, regression = cfg.method, cfg.task.kind == "regression"
    if method.get("overlap") == "none":
        raise UserError(
            "method.overlap=none: with no example forwarded twice there is nothing to compare in "
            "classification and regression. Allowed are append, half."
        )
    if method.get("overlap") == "half" and cfg.schedule.batch_size < 2:
        raise UserError("method.overlap=half needs schedule.batch_size of at least 2: the batch holds both halves.")
    if regression and method.get("discrimination") == "margin":
        raise UserError(
            "method.discrimination=margin reads class probabilities, and a regression task has none. Allowed is gold."
        )
    if method.get("factor") == "lambda" and method.lambda_ < 1:
        raise UserError(
            f"method.lambda_={method.lambda_}: must be at least 1, the factor by which a discordant example gains "
            "(with method.factor=exp the factor is e^λ and λ may start at 0)."
        )


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
    """Parse `2 minutes`, `500 steps` or `1 epochs` into (amount, unit). Raises `UserError` on anything else."""
    parsed = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(step|minute|epoch)s?\s*", str(every))
    if not parsed or float(parsed[1]) <= 0:
        raise UserError(
            f"runtime.checkpoint_every={every}: allowed is a number and a unit: '2 minutes', '500 steps', '1 epochs'."
        )
    return float(parsed[1]), parsed[2] + "s"


# --- identity ------------------------------------------------------------------------------------

SCIENCE = ("model", "task", "method", "schedule", "seed")
"""The parts of a configuration that can change a result; the rest changes speed or place only."""


def scientific(cfg: DictConfig) -> dict[str, Any]:
    """The resolved settings that say which run this is."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    return {str(name): resolved[name] for name in SCIENCE}


def run_key(cfg: DictConfig) -> str:
    """Ten hexadecimal digits that identify the scientific settings."""
    canonical = json.dumps(scientific(cfg), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def model_slug(name: str) -> str:
    """A model's name as a folder: the last part of a path or Hub id."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip(".-")
    return slug or "model"
