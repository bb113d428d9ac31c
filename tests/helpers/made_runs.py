"""Run directories made by hand, with an effect that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import OmegaConf
from pyarrow import parquet

from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.reports.studies import gather
from selfdistill_cli.reports.variants import Study
from selfdistill_cli.runs.directory import RunDirectory
from tests.helpers.runs import composed


def make_run(
    outputs: Path,
    *overrides: str,
    accuracy: float = 0.8,
    examples: int = 100,
    rows: list[dict[str, Any]] | None = None,
    draw: int = 0,
    passes: float | None = None,
    **of_results: Any,
) -> Path:
    """A finished classification run whose predictions are right with this probability; `draw` seeds which.

    `passes` is `method.passes`; further keywords are entries of results.json.
    """
    cfg = composed(f"paths.outputs={outputs}", *overrides)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    run = RunDirectory(cfg).path
    if passes is not None:
        settings["method"]["passes"] = passes
        run = run.with_name(f"{run.name}-{passes}")
    run.mkdir(parents=True)
    rng = np.random.default_rng([cfg.seed, draw])
    labels = rng.integers(0, 2, examples)
    right = rng.random(examples) < accuracy
    predictions = np.where(right, labels, 1 - labels)
    logits = [[0.0, 1.0] if prediction else [1.0, 0.0] for prediction in predictions]
    table = pa.table(
        {"split": ["validation"] * examples, "index": np.arange(examples), "logits": logits, "prediction": predictions,
         "label": labels}
    )  # fmt: skip
    parquet.write_table(table, run / "predictions.parquet")
    (run / "config.yaml").write_text(OmegaConf.to_yaml(settings))
    train = [{"kind": "train", "step": s, "epoch": s / 10, "loss": 1 / s, "loss/ce": 1 / s} for s in range(1, 31)]
    evaluations = [
        {"kind": "eval", "step": 10 * e, "epoch": float(e), "eval/accuracy": accuracy, "eval/loss": 0.5, "signal/uncertainty/auroc": 0.7,
         "signal/uncertainty/spearman": -0.2}
        for e in (1, 2, 3)
    ]  # fmt: skip
    lines = [json.dumps(row) for row in [*train, *evaluations, *(rows or [])]]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    score = float(right.mean())
    results = {
        "status": "finished", "key": run.name, "task": cfg.task.name, "model": "minilm", "method": cfg.method.name, "seed": cfg.seed,
        "metric": "accuracy", "score": score, "metrics": {"final": {"accuracy": score}}, "examples_forwarded": 300,
        "train_examples": 100, "synthetic": True, "kind": "classification", "labels": ["a", "b"], "seconds": 1.0,
    }  # fmt: skip
    (run / "results.json").write_text(json.dumps(results | of_results))
    return run


def study_of(outputs: Path, task: str | None = None) -> Study:
    """The one study of the runs below a folder, or the one of this task."""
    (only,) = (one for one in gather(find_runs([outputs])).studies if task in (None, one.task))
    return only


def variants(study: Study) -> list[str]:
    """The names of its groups, in their order."""
    return [group.variant for group in study.groups]
