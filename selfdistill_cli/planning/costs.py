"""What runs of one kind take, read off finished ones: seconds of a step and of an evaluation, memory, disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.keys import scientific_settings
from selfdistill_cli.runs.results import read_results
from selfdistill_cli.system.files import read_json

FIRST_STEPS = 3
"""Of a run; they are slower, since libraries set themselves up, and of short runs they are left out."""
FEW_STEPS = 100
FORWARD_SHARE = 1 / 3
"""Of a training step; the backward pass takes about twice as long as the forward pass."""
SIZES = ("train_examples", "validation_examples", "label_noise", "added")
"""Settings of a task that change how many steps and examples there are, and not what one takes."""
OF_A_STEP = ("batch_size", "optimizer")
"""Settings of a schedule that change what a step takes."""
OF_THE_RUNTIME = (
    "device",
    "precision",
    "deterministic",
    "compile",
    "threads",
    "token_budget",
    "padding",
    "gradient_checkpointing",
    "shard",
)
OF_THE_MACHINE = ("processor", "gpu")
"""Entries of environment.json; its `processor_threads` are those of the run."""


@dataclass(frozen=True)
class Cost:
    """What runs of one kind take."""

    example_seconds: float
    """Of a training step, for each example that it forwards."""
    fresh_per_step: float
    """Examples of the epoch that a step takes."""
    passes_at_first: float
    """Forward passes for each fresh example in the first step of a run, which has no step before it."""
    passes: float
    """And in all others."""
    predicted_per_epoch: float
    """Of the training set, for the method: as a share of it."""
    evaluation_seconds: float
    """For each example each time."""
    overhead_seconds: float
    """Of a run, beside its training; without scores and predictions of the chosen model."""
    memory_mb: float
    run_bytes: float
    """On disk when it has finished: what depends on neither steps nor predictions."""
    step_bytes: float
    prediction_bytes: float
    checkpoint_bytes: float
    """While it trains."""


@dataclass(frozen=True)
class Sizes:
    """How many examples a run trains on and is scored on."""

    train: int
    watched: int
    """Scored in each evaluation while it trains."""
    predicted: int
    """By the chosen model: those of validation and test set."""


@dataclass(frozen=True)
class Known:
    """A finished run, as far as a plan is concerned."""

    kind: str
    data: str
    cost: Cost
    sizes: Sizes
    threads: int | None
    """`runtime.threads`: as many as the machine gives where it is null."""


def kind_of_cost(cfg: DictConfig) -> str:
    """What decides how long a step takes: equal for runs that differ in the seed, a learning rate, τ or α.

    Whole numbers, words and switches of a method may change what it computes; fractions weigh what it computes.
    """
    science = scientific_settings(cfg)
    task = {name: value for name, value in science["task"].items() if name not in SIZES}
    method = _without_fractions(science["method"], cfg.method)
    schedule = {name: science["schedule"].get(name) for name in OF_A_STEP}
    runtime = {name: cfg.runtime.get(name) for name in OF_THE_RUNTIME}
    parts = [science["model"], task, method, schedule, runtime, cfg.tracking.backend]
    return json.dumps(parts, sort_keys=True, default=str)


def data_of(cfg: DictConfig) -> str:
    """What decides how many examples there are."""
    return json.dumps(scientific_settings(cfg)["task"], sort_keys=True, default=str)


def _without_fractions(settings: dict[str, Any], node: Any) -> dict[str, Any]:
    kept = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            kept[name] = _without_fractions(value, node[name])
        elif not isinstance(node[name], float):
            kept[name] = value
    return kept


# --- finished runs --------------------------------------------------------------------------------


def known_runs(outputs: Path, tasks: set[str], cache: str) -> Iterator[Known]:
    """Finished runs of these tasks, made on this machine, below `outputs`; what cannot be read is passed over.

    `cache`: where digests of files are kept.
    """
    here = _machine()
    for task in sorted(tasks):
        for file in sorted((outputs / task).glob("*/*/*/results.json")):
            try:
                environment = read_json(file.parent / "environment.json") or {}
                if all(environment.get(name) == here[name] for name in OF_THE_MACHINE):
                    known = known_run(file.parent, cache)
                    if environment["processor_threads"] == (known.threads or here["processor_threads"]):
                        yield known
            except (UserError, OSError, ValueError, KeyError, TypeError, ArithmeticError):
                continue  # a run of an earlier version, or a damaged one: others, or a short run, tell


def known_run(folder: Path, cache: str) -> Known:
    """A finished run. Raises an exception if it does not hold what is needed."""
    from pyarrow import parquet

    cfg = OmegaConf.load(folder / "config.yaml")
    results = read_results(folder / "results.json")
    if not isinstance(cfg, DictConfig) or results is None:
        raise ValueError(f"{folder} is no finished run")
    cfg.paths.cache = cache
    of_split = parquet.read_table(folder / "predictions.parquet", columns=["split"])["split"].to_pylist()
    watched = sum(split != "test" for split in of_split) or len(of_split)  # a test set is scored at the end alone
    sizes = Sizes(results.train_examples, watched, len(of_split))
    if results.selection_score is not None:  # a share was held out, and is no part of the training examples
        share = cfg.task.selection_share
        sizes = replace(sizes, watched=max(1, round(results.train_examples * share / (1 - share))))
    cost = _cost(folder, cfg, results.as_dict(), sizes)
    return Known(kind_of_cost(cfg), data_of(cfg), cost, sizes, cfg.runtime.threads)


def _machine() -> dict[str, Any]:
    from selfdistill_cli.system.environment import environment

    return environment()


def _cost(folder: Path, cfg: DictConfig, results: dict[str, Any], sizes: Sizes) -> Cost:
    steps, evaluations = _rows(folder / "metrics.jsonl")
    example_seconds = _seconds_an_example(steps)
    predicted = (results.get("compute") or {}).get("predictions", {}).get("forward", 0)
    beside_steps = results["seconds"] - results["step_seconds"] - results["checkpoint_seconds"]
    beside_steps -= predicted * FORWARD_SHARE * example_seconds
    evaluation = max(0.0, beside_steps) / max(1, evaluations) / sizes.watched
    fresh = _fresh_per_step(cfg, results)
    by_name = {name: _bytes(folder / name) for name in ("metrics.jsonl", "wandb", "predictions.parquet")}
    growing = by_name["metrics.jsonl"] + by_name["wandb"]
    return Cost(
        example_seconds=example_seconds,
        fresh_per_step=fresh,
        passes_at_first=steps[0][0] / min(fresh, sizes.train),
        passes=max(examples for examples, _ in steps) / min(fresh, sizes.train),
        predicted_per_epoch=predicted / (results["train_examples"] * max(1.0, results["epochs"])),
        evaluation_seconds=evaluation,
        overhead_seconds=max(0.0, results["overhead_seconds"] - sizes.predicted * evaluation),
        memory_mb=results["peak_memory_mb"],
        run_bytes=_bytes(folder) - growing - by_name["predictions.parquet"],
        step_bytes=growing / results["steps"],
        prediction_bytes=by_name["predictions.parquet"] / sizes.predicted,
        checkpoint_bytes=2 * 4 * 4 * results["trained_parameters"],  # two; weights, best weights, Adam's two moments
    )


def _seconds_an_example(steps: list[tuple[int, float]]) -> float:
    """Over the steps but the first; of few ones the slowest and quickest are left out, when others had the machine."""
    timed = steps[FIRST_STEPS:] or steps
    if len(timed) < FEW_STEPS:
        aside = len(timed) // 8
        timed = sorted(timed, key=lambda step: step[1] / step[0])[aside : len(timed) - aside]
    return sum(seconds for _, seconds in timed) / sum(examples for examples, _ in timed)


def _rows(file: Path) -> tuple[list[tuple[int, float]], int]:
    """Examples and seconds of each step, and the number of evaluations."""
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    steps = [(row["examples"], row["examples"] / row["examples_per_s"]) for row in rows if row["kind"] == "train"]
    return steps, sum(row["kind"] == "eval" for row in rows)


def _fresh_per_step(cfg: DictConfig, results: dict[str, Any]) -> float:
    """Examples of the epoch that a step takes: the batch size, unless a method takes others."""
    per_epoch = max(1, round(results["steps"] / results["epochs"]))
    size = int(cfg.schedule.batch_size)
    exact = -(-results["train_examples"] // size) == per_epoch
    return size if exact else max(1, round(results["train_examples"] / per_epoch))


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def typical(costs: Sequence[Cost]) -> Cost:
    """The median of each."""
    return Cost(**{each.name: median(getattr(cost, each.name) for cost in costs) for each in fields(Cost)})
