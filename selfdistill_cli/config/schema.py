"""Types and bounds of every setting. Values and their comments live in conf/, checks in checks.py."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from selfdistill_cli.config.fields import SEVERAL, choice, location, number, switch
from selfdistill_cli.config.launchers import Local, Slurm
from selfdistill_cli.config.methods import methods

PACKAGE_DIR = Path(__file__).parent.parent
CONF_DIR = next(path for path in (PACKAGE_DIR / "conf", PACKAGE_DIR.parent / "conf") if path.is_dir())
"""conf/ inside an installed wheel, or at the top of the repository."""


# --- model ---------------------------------------------------------------------------------------


@dataclass
class Lora:
    rank: int | None = number(at_least=1)
    alpha: float = number(above=0)
    dropout: float = number(at_least=0, at_most=0.99)
    target_modules: Any = dataclasses.field(default=None, metadata=SEVERAL)
    merge: bool = switch()


@dataclass
class Model:
    name: str = location()
    dropout: float | None = number(at_least=0, at_most=0.99)
    dtype: str = choice("float32", "bfloat16")
    lora: Lora = MISSING
    quantization: str = choice("none", "nf4", "int8", neutral="none")
    trust_remote_code: bool = switch()
    config: dict[str, Any] = MISSING


# --- task ----------------------------------------------------------------------------------------


@dataclass
class Hub:
    path: str = MISSING
    config: str | None = None
    revision: str | None = None


@dataclass
class Generator:
    name: str = choice("synth_entailment", "synth_similarity", "synth_arithmetic", "synth_facts")
    train_examples: int = number(at_least=1)
    validation_examples: int = number(at_least=1)
    seed: int = number(at_least=0)


@dataclass
class Decoding:
    max_new_tokens: int = number(at_least=1)
    num_beams: int = number(at_least=1, neutral=1)
    temperature: float = number(at_least=0, neutral=0)


@dataclass
class Task:
    """What all tasks share; conf/base/task.yaml gives the values that a task leaves alone."""

    name: str = MISSING
    kind: str | None = None
    text: str = MISSING
    text_pair: str | None = None
    label: str = MISSING
    labels: list[str] | None = None
    group: str | None = None
    answer: str | None = None
    references: str | None = None
    no_answer: str | None = None
    messages: str | None = None
    turns: str = choice("all", "last", neutral="all")
    answer_rule: str = choice("text", "normalized", "number", "after_hashes", "letter")
    choices: str | None = None
    chat_template: str = choice("auto", "off", neutral="off")
    long_prompts: str = choice("error", "cut")
    decoding: Decoding = MISSING
    metrics: list[str] | None = None
    metric: str | None = None
    train: str = MISSING
    train_task: str | None = None
    validation: list[str] = MISSING
    rename: dict[str, str] = MISSING
    hub: Hub | None = None
    train_hub: Hub | None = None
    generator: Generator | None = None
    test: str | None = None
    selection: str = choice("validation", "held_out", neutral="validation")
    selection_share: float = number(above=0, below=1)
    folds: int | None = number(at_least=2)
    fold: int = number(at_least=0, neutral=0)
    path: str | None = location(None)
    validation_path: str | None = location(None)
    test_path: str | None = location(None)
    added: str | None = location(None)
    delimiter: str | None = None
    encoding: str | None = None
    header: bool = switch(neutral=True)
    quoting: str | None = dataclasses.field(default=None, metadata={"choices": ("double", "none")})
    train_examples: int | None = number(at_least=1)
    validation_examples: int | None = number(at_least=1)
    label_noise: float = number(at_least=0, at_most=1, neutral=0)
    label_map: dict[str, str] = MISSING
    weight: str | None = None
    class_weights: Any = None
    missing: str = choice("error", "drop", "keep", neutral="error")
    strict: bool = switch()
    max_length: int = number(at_least=4)


# --- self-training --------------------------------------------------------------------------------


@dataclass
class SelfTraining:
    """Rounds in which a run learns from what the one before wrote."""

    name: str = choice("star", "correction")
    rounds: int = number(at_least=1)
    samples: int = number(at_least=1)
    temperature: float = number(above=0)
    request: str | None = None
    round: int | None = None
    """Which one a run is; set by whoever does the rounds."""


# --- schedule, runtime, tracking, paths ----------------------------------------------------------


@dataclass
class Schedule:
    epochs: float = number(at_least=0)
    max_steps: int | None = number(at_least=1)
    batch_size: int = number(at_least=1)
    optimizer: str = choice("adamw", "adafactor", "sgd")
    lr: float = number(above=0)
    warmup_ratio: float = number(at_least=0, at_most=1, neutral=0)
    scheduler: str = choice("linear", "cosine", "constant")
    weight_decay: float = number(at_least=0, neutral=0)
    max_grad_norm: float | None = number(above=0)
    evaluate_every: Any = MISSING
    patience: int | None = number(at_least=1)
    keep: str = choice("best", "last")


@dataclass
class Runtime:
    device: str = choice("auto", "cpu", "cuda", "mps")
    precision: str = choice("auto", "fp32", "bf16", "fp16")
    deterministic: bool = MISSING
    compile: bool = MISSING
    threads: int | None = number(at_least=1)
    token_budget: int = number(at_least=1)
    padding: str = choice("auto", "none", "longest")
    profile: bool = MISSING
    trace_steps: int | None = number(at_least=1)
    gradient_checkpointing: bool = MISSING
    shard: str = choice("none", "full")
    diagnostics: Any = dataclasses.field(default=None, metadata=SEVERAL)
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
    data: str = location()
    outputs: str = location()
    cache: str = location()


SCIENCE = ("model", "task", "method", "schedule", "seed")
"""The parts of a configuration that can change a result; beside `self_training` and `sequence`, which make several runs of one; the rest changes speed or place only."""


@dataclass
class Config:
    model: Model = MISSING
    task: Task = MISSING
    method: Any = MISSING
    """Typed by its own schema, so that a plugin can bring another."""
    schedule: Schedule = MISSING
    runtime: Runtime = MISSING
    tracking: Tracking = MISSING
    self_training: Any = MISSING
    """Of `none` nothing but the name."""
    paths: Paths = MISSING
    seed: int = number(at_least=0, at_most=2**32 - 1)
    rerun: bool = MISSING
    eval_tasks: Any = MISSING
    sequence: Any = dataclasses.field(default=None, metadata=SEVERAL)


def _groups() -> dict[str, dict[str, Any]]:
    return {
        "model": {"model": Model},
        "task": {"task": Task},
        "schedule": {"schedule": Schedule},
        "runtime": {"runtime": Runtime},
        "tracking": {"tracking": Tracking},
        "self_training": {"rounds": SelfTraining},
        "launcher": {"slurm": Slurm, "local": Local},
        "method": {declared.__name__: declared for declared in methods()},
    }


def nodes() -> list[Any]:
    """All dataclasses of settings."""
    return [Config, Paths, *(node for named in _groups().values() for node in named.values())]


def register_schemas() -> None:
    """Make the dataclasses known to Hydra as `schema/...`, apart from the options that a user chooses."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    for group, named in _groups().items():
        for name, node in named.items():
            store.store(group=f"schema/{group}", name=name, node=node)
