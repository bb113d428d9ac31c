"""What a finished run leaves: results, predictions, the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from omegaconf import DictConfig
from pyarrow import parquet

from selfdistill_cli.engine.progress import Outcome, Progress
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.models.lora import save_with_lora
from selfdistill_cli.runs.directory import RunDirectory, model_slug
from selfdistill_cli.runs.model_card import write_model_card
from selfdistill_cli.system.files import new_file, new_folder, read_json
from selfdistill_cli.tasks import TaskData


def summarize(
    cfg: DictConfig, directory: RunDirectory, task: TaskData, train: Any, loaded: LoadedModel, outcome: Outcome
) -> dict[str, Any]:
    progress = outcome.progress
    return {
        "status": "finished",
        "key": directory.key,
        "task": cfg.task.name,
        "model": model_slug(cfg.model.name),
        "method": cfg.method.name,
        "seed": cfg.seed,
        "metric": task.metric,
        "score": outcome.final_metrics[task.metric],
        "metrics": {"final": outcome.final_metrics, "best": progress.best_metrics, "last": progress.last_metrics},
        "best_epoch": round(progress.best_step / outcome.steps_per_epoch, 6),
        "epochs": round(progress.step / outcome.steps_per_epoch, 6),
        "steps": progress.step,
        "stopped_early": progress.stopped_early,
        "examples_forwarded": progress.examples_forwarded,
        "seconds": round(progress.seconds, 3),
        "checkpoint_seconds": round(progress.checkpoint_seconds, 3),
        "step_seconds": round(progress.step_seconds, 3),
        **_phases(progress),
        "tokens": progress.tokens,
        "train_examples": len(train),
        "truncated_examples": train.truncated,
        "parameters": loaded.model.num_parameters(),
        "trained_parameters": loaded.model.num_parameters(only_trainable=True),
        "kind": task.kind.name,
        "labels": task.label_names,
        "data": task.source,
        "synthetic": task.synthetic,
        "fingerprints": {"data": task.fingerprint, "weights": loaded.fingerprint},
    }


def _phases(progress: Progress) -> dict[str, Any]:
    """Seconds by phase, with what belongs to none (method, records, the terminal), if they were measured."""
    measured = progress.phase_seconds
    if not measured:
        return {}
    other = progress.seconds - sum(measured.values())
    return {"phase_seconds": {name: round(seconds, 3) for name, seconds in {**measured, "other": other}.items()}}


def cost_of(teacher: Path | None) -> dict[str, Any]:
    """Which teacher a run had and what it cost, where a run of ours made it: part of a fair comparison."""
    if teacher is None:
        return {}
    made_by = read_json(teacher.parent / "results.json") or {}
    return {"teacher": {name: made_by.get(name) for name in ("key", "examples_forwarded")}}


def save_predictions(path: Path, tables: list[pa.Table]) -> None:
    """predictions.parquet: every validation example's split, index, prediction and label."""
    with new_file(path) as beside:
        parquet.write_table(pa.concat_tables(tables), beside)


def save_examples(path: Path, task: TaskData, columns: dict[str, Any]) -> None:
    """examples.parquet: each training example's row in the source, its label, and what the method knows of it.

    With `task.label_noise` also `clean_label`, what the label was. Without either there is no such file.
    """
    if not columns and task.train.clean_labels is None:
        return
    table: dict[str, Any] = {"index": task.train.rows, "label": task.train.labels}
    if task.train.clean_labels is not None:
        table["clean_label"] = task.train.clean_labels
    with new_file(path) as beside:
        parquet.write_table(pa.table(table | {name: values.numpy() for name, values in columns.items()}), beside)


def save_model(
    path: Path, model: Any, loaded: LoadedModel, cfg: DictConfig, task: TaskData, results: dict[str, Any]
) -> None:
    """model/: weights, tokenizer and model card, as `from_pretrained` reads them."""
    with new_folder(path) as folder:
        if cfg.model.lora.rank is None:
            model.save_pretrained(folder)
        else:
            save_with_lora(model, cfg.model, folder)
        loaded.tokenizer.save_pretrained(folder)
        write_model_card(folder / "README.md", cfg, task.kind.pipeline_tag, results)
