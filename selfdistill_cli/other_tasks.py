"""A finished run scored on the validation sets of other tasks, without training: `eval_tasks`, `sdevaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.engine.processes import on_main
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import kind_of, load_validation
from selfdistill_cli.models import load_finished
from selfdistill_cli.runs.results import save_predictions
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.overhead import peak_memory_mb
from selfdistill_cli.tasks import TaskData
from selfdistill_cli.tasks.findings import report_scored, say_cut
from selfdistill_cli.tasks.summary import OF_CLASS_ONE

log = logging.getLogger(__name__)

NOT_OF_A_SCORE = frozenset(
    {"hub", "train_hub", "path", "validation_path", "generator"}  # where data lies: its content counts
    | {"train", "train_task", "train_examples", "added", "label_noise"}  # what is trained on
    | {"test", "test_path", "selection", "selection_share"}  # what else is scored, and what chooses
    | {"max_length"}  # named apart: the run's, or of answers the larger one
    | {"strict"}  # refuses or says, and changes no score
)
"""Settings of a task that a model of another one is scored without."""
AS_BEFORE = {"missing": "error", "folds": None, "fold": 0, "no_answer": None, "messages": None, "turns": "all"}
"""Settings that came later, at the value that scores of before were made with."""


def score_on_other_tasks(
    cfg: DictConfig, run: Path, tasks: Sequence[DictConfig], runtime: Runtime, keep: bool = True
) -> dict[str, dict[str, Any]]:
    """Score the finished run in the folder `run`, of configuration `cfg`, on other tasks; those of before are kept.

    A task is scored on its validation splits, the same examples that its own runs are scored on: of a user's own
    files task.validation_path, else the fifth of task.path that training holds out, so that no score ever counts an
    example that a run of that task learned from. Whoever wants a file scored whole names it as task.validation_path.

    Leaves evaluations/<task>.json and .parquet, if `keep`; a score is found again while the data and `settings` in it are the
    same. Returns what the JSON files hold, by task. Raises `UserError` if a task's data is not there, or it is of
    another kind or of other labels than the run's.
    """
    results = on_main(runtime.accelerator, lambda: read_json(run / "results.json"))  # what one sees, all go by
    if results is None:
        raise UserError(f"{run} has not finished: there is no model to evaluate.")
    found: dict[str, dict[str, Any]] = {}
    for asked in tasks:
        task_cfg, data = _validation_of(cfg, asked)
        if runtime.is_main:
            report_scored(data)
        place = run / "evaluations" / f"{data.name}.json"
        settings = _settings(cfg, task_cfg)
        if data.kind.has_classes and not set(OF_CLASS_ONE).isdisjoint(data.metrics):  # once it was the model's class 1
            settings["class_one"] = data.label_names[1]
        before = on_main(runtime.accelerator, partial(read_json, place))
        if before is None or (before["fingerprint"], before.get("settings")) != (data.fingerprint, settings):
            log.info("evaluating %s of %s on %s", results["method"], results["task"], data.name)
            before_it = runtime.compute.writing
            scores, tables = _evaluated(cfg, run, results, data, runtime)
            record = {
                "task": data.name,
                "metric": data.metric,
                "score": scores.metrics[data.metric],
                "metrics": scores.metrics,
                "examples": len(data.validation[0]),
                "data": data.source,
                "synthetic": data.synthetic,
                "fingerprint": data.fingerprint,
                "settings": settings,
            }
            if runtime.compute.writing.answers > before_it.answers:
                written = runtime.compute.writing.since(before_it).as_dict()
                record["writing_quality"] = scores.writing
                record["writing"] = written | {"peak_memory_mb": peak_memory_mb(runtime.device)}

            def save(place: Path = place, tables: list[pa.Table] = tables, record: dict[str, Any] = record) -> None:
                save_predictions(place.with_suffix(".parquet"), tables)
                write_json(place, record)  # last: its presence means that the predictions are there

            if keep:
                on_main(runtime.accelerator, save)
            before = record
        found[data.name] = before
    return found


def require_scorable(cfg: DictConfig, trained: TaskData, tasks: Sequence[DictConfig]) -> None:
    """Raise `UserError` unless a model trained on `trained` by `cfg` can be scored on all these tasks.

    Their data is read for it, so that nothing is trained before a file turns out not to be there.
    """
    for asked in tasks:
        _, data = _validation_of(cfg, asked)
        try:
            _require_same_kind(data, trained.kind.name, trained.name)
            data.kind.require_common_labels(data, trained)
        except UserError as error:
            raise UserError(f"eval_tasks={data.name}: {error}") from error


def _validation_of(cfg: DictConfig, asked: DictConfig) -> tuple[DictConfig, TaskData]:
    """A task's settings as the run's model is scored on it, and its validation splits."""
    task_cfg, kind = asked.copy(), kind_of(asked)
    own = asked.max_length if kind.refuses_long else 0
    task_cfg.max_length = max(own, cfg.task.max_length)  # else as the model was trained
    learned_conversations = cfg.task.get("messages") is not None  # their format is in the tokenizer
    if "chat_template" in kind.uses and not learned_conversations:
        task_cfg.chat_template = cfg.task.get("chat_template", asked.chat_template)
    return task_cfg, load_validation(task_cfg, str(cfg.paths.data), Path(cfg.paths.cache).absolute())


def _require_same_kind(data: TaskData, kind: str, what: str) -> None:
    if data.kind.name != kind:
        raise UserError(f"{what} is {kind}, {data.name} is {data.kind.name}: they have no score in common.")


def _settings(cfg: DictConfig, task_cfg: DictConfig) -> dict[str, Any]:
    """What a score depends on beside the run's weights and the data's content."""
    task: Any = OmegaConf.to_container(task_cfg, resolve=True)
    return {
        "task": {
            name: value
            for name, value in task.items()
            if name not in NOT_OF_A_SCORE and (name not in AS_BEFORE or value != AS_BEFORE[name])
        },
        "label_map": OmegaConf.to_container(cfg.task.label_map, resolve=True),
        "max_length": task_cfg.max_length,
    }


def _evaluated(
    cfg: DictConfig, run: Path, results: dict[str, Any], data: TaskData, runtime: Runtime
) -> tuple[Scores, list[pa.Table]]:
    """Scores over the labels that both tasks have in common, and a table of predictions a split."""
    _require_same_kind(data, results["kind"], f"the run {run}")
    trained = replace(data, settings=cfg.task, label_names=results["labels"])
    loaded = load_finished(run / "model", trained, cfg.model.trust_remote_code)
    prepared = runtime.prepare(loaded.model)
    data = _within_context(data, loaded.model.config, cfg.task.max_length)
    examples = [data.kind.encode(data, loaded, split) for split in data.validation]
    if runtime.is_main:
        for split, encoded in zip(data.validation, examples, strict=True):
            say_cut(f"{data.name}, {split.name}", data.settings, encoded)
    data, shown = data.kind.on_labels_of(data, examples, trained)
    evaluator = data.kind.evaluator(data, loaded, shown, data.kind.losses(data, prepared), runtime, cfg.seed)
    found: tuple[Scores, list[pa.Table]] = evaluator.scored(prepared)
    return found


def _within_context(data: TaskData, config: Any, of_run: int) -> TaskData:
    """The data with a `max_length` that the model has room for: the task's own may be longer, the run's (`of_run`) is not.

    What is written stands behind the longest prompt, which a task that cuts them makes as long as it may.
    """
    context, settings = getattr(config, "max_position_embeddings", None), data.settings.copy()
    if not data.kind.refuses_long or context is None:
        return data
    written = settings.decoding.max_new_tokens if data.kind.writes and settings.long_prompts == "cut" else 0
    settings.max_length = max(of_run, min(settings.max_length, context - written))
    return replace(data, settings=settings)
