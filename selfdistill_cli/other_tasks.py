"""A finished run scored on the validation sets of other tasks, without training: `eval_tasks`, `sdevaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from selfdistill_cli.engine.prediction import predict
from selfdistill_cli.engine.processes import on_main
from selfdistill_cli.engine.runtime import make_batching
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.label_maps import common_labels, regrouped
from selfdistill_cli.evaluation.labelled import decide
from selfdistill_cli.evaluation.predictions import label_table
from selfdistill_cli.models import LoadedModel, load_finished
from selfdistill_cli.problem import encode_split, make_evaluator, make_terms
from selfdistill_cli.runs.results import save_predictions
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.tasks import TaskData
from selfdistill_cli.tasks.data import load_validation

log = logging.getLogger(__name__)

NOT_OF_A_SCORE = frozenset(
    {"hub", "train_hub", "path", "validation_path", "generator"}  # where data lies: its content counts
    | {"train", "train_task", "train_examples", "label_noise"}  # what is trained on
    | {"max_length"}  # the run's is used
)
"""Settings of a task that a model of another one is scored without."""
Found = tuple[dict[str, float], list[pa.Table]]
"""Metrics, and a table of predictions a split."""


def score_on_other_tasks(
    cfg: DictConfig, run: Path, tasks: Sequence[DictConfig], accelerator: Accelerator
) -> dict[str, dict[str, Any]]:
    """Score the finished run in the folder `run`, of configuration `cfg`, on other tasks; those of before are kept.

    A task is scored on its validation splits, the same examples that its own runs are scored on: of a user's own
    files task.validation_path, else the fifth of task.path that training holds out, so that no score ever counts an
    example that a run of that task learned from. Whoever wants a file scored whole names it as task.validation_path.

    Leaves evaluations/<task>.json and .parquet; a score is found again while the data and `settings` in it are the
    same. Returns what the JSON files hold, by task. Raises `UserError` if a task's data is not there, or it is of
    another kind or of other labels than the run's.
    """
    results = read_json(run / "results.json")
    if results is None:
        raise UserError(f"{run} has not finished: there is no model to evaluate.")
    found: dict[str, dict[str, Any]] = {}
    for task_cfg in tasks:
        data = load_validation(task_cfg, str(cfg.paths.data), Path(cfg.paths.cache).absolute())
        place = run / "evaluations" / f"{data.name}.json"
        settings = _settings(cfg, task_cfg)
        before = read_json(place)
        if before is None or (before["fingerprint"], before.get("settings")) != (data.fingerprint, settings):
            log.info("evaluating %s of %s on %s", results["method"], results["task"], data.name)
            metrics, tables = _evaluated(cfg, run, results, task_cfg, data, accelerator)
            record = {
                "task": data.name,
                "metric": data.metric,
                "score": metrics[data.metric],
                "metrics": metrics,
                "examples": len(data.validation[0]),
                "data": data.source,
                "synthetic": data.synthetic,
                "fingerprint": data.fingerprint,
                "settings": settings,
            }

            def save(place: Path = place, tables: list[pa.Table] = tables, record: dict[str, Any] = record) -> None:
                save_predictions(place.with_suffix(".parquet"), tables)
                write_json(place, record)  # last: its presence means that the predictions are there

            on_main(accelerator, save)
            before = record
        found[data.name] = before
    return found


def _settings(cfg: DictConfig, task_cfg: DictConfig) -> dict[str, Any]:
    """What a score depends on beside the run's weights and the data's content."""
    task: Any = OmegaConf.to_container(task_cfg, resolve=True)
    return {
        "task": {name: value for name, value in task.items() if name not in NOT_OF_A_SCORE},
        "label_map": OmegaConf.to_container(cfg.task.label_map, resolve=True),
        "max_length": cfg.task.max_length,
    }


def _evaluated(
    cfg: DictConfig, run: Path, results: dict[str, Any], task_cfg: DictConfig, data: TaskData, accelerator: Accelerator
) -> Found:
    if data.kind != results["kind"]:
        raise UserError(
            f"{run} is a run of {results['kind']}, {data.name} is {data.kind}: they have no score in common."
        )
    here = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(here, DictConfig)
    with open_dict(here):
        here.task = OmegaConf.create(OmegaConf.to_container(task_cfg, resolve=True))
        here.task.max_length = cfg.task.max_length  # as the model was trained
    as_trained = replace(data, label_names=results["labels"])
    model, tokenizer = load_finished(run / "model", as_trained)
    batching = make_batching(cfg.runtime.token_budget, accelerator, cfg.model.dtype)
    examples = [encode_split(here.task, data, model, tokenizer, split) for split in data.validation]
    prepared: nn.Module = accelerator.prepare_model(model, evaluation_mode=True)
    if not data.is_language_modeling:
        predicted = [predict(prepared, encoded, batching, accelerator) for encoded in examples]
        return _scored(cfg, task_cfg, as_trained, data, predicted)
    loaded, terms = LoadedModel(model, tokenizer, ""), make_terms(data, model)
    evaluator = make_evaluator(here, data, loaded, examples, terms, batching, accelerator)
    return evaluator.scores(prepared).metrics, evaluator.predictions(prepared)


def _scored(
    cfg: DictConfig, task_cfg: DictConfig, as_trained: TaskData, data: TaskData, predicted: list[torch.Tensor]
) -> Found:
    """Metrics over the labels that both tasks have in common."""
    from selfdistill_cli.evaluation.metrics import score  # seconds to import

    metrics: dict[str, float] = {}
    tables: list[pa.Table] = []
    if data.kind == "classification":
        gold, classes, names = common_labels(
            data.label_names, task_cfg.label_map, as_trained.label_names, cfg.task.label_map
        )
        splits = [replace(split, labels=gold[split.labels]) for split in data.validation]
        data = replace(data, label_names=names, validation=splits)
        predicted = [regrouped(logits, classes, len(names)) for logits in predicted]
    for split, logits in zip(data.validation, predicted, strict=True):
        metrics |= data.named(split, score(data, split, decide(logits)))
        tables.append(label_table(split, list(logits.reshape(len(split), -1).numpy()), decide(logits)))
    return metrics, tables
