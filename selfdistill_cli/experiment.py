"""One run, told in order: data, model, method, loop, evaluation, record."""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import diagnostics_of
from selfdistill_cli.config.options import option
from selfdistill_cli.diagnostics.choice import make_probes
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.loop import TrainingLoop
from selfdistill_cli.engine.processes import on_main
from selfdistill_cli.engine.runtime import make_accelerator, make_batching, precision_of
from selfdistill_cli.engine.utilization import utilization
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.labelled import Terms
from selfdistill_cli.methods import Method, TrainingContext
from selfdistill_cli.models import LoadedModel, load_model
from selfdistill_cli.models.cpu.tuning import tune
from selfdistill_cli.other_tasks import score_on_other_tasks
from selfdistill_cli.problem import encode_split, make_evaluator, make_terms, require_suitable
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.results import cost_of, save_examples, save_model, save_predictions, summarize
from selfdistill_cli.tasks import Split, TaskData, load_task
from selfdistill_cli.teacher import teacher_folder, teacher_logits
from selfdistill_cli.tracking import MetricsRecorder, SilentRecorder, Terminal, WandbTracker, Watcher
from selfdistill_cli.tracking.terminal import make_console, print_results, say

log = logging.getLogger(__name__)

RANK_STRIDE = 1_000_003
"""Between the seeds of dropout in the processes of one run."""


def run(cfg: DictConfig, group: str | None = None) -> dict[str, Any]:
    """Do the run that `cfg` describes, go on with it, or return its results if it has finished.

    `group` names the sweep that the run belongs to. Returns what results.json holds. Several processes
    may do it together: the main one claims the run, writes and speaks.
    """
    directory = RunDirectory(cfg)
    others = [option("task", name) for name in cfg.eval_tasks]  # a wrong name is refused before anything is trained
    accelerator = make_accelerator(cfg.runtime)
    with contextlib.ExitStack() as claim:
        finished = on_main(accelerator, lambda: _open(cfg, directory, claim))
        if finished is None:
            with directory.logging() if accelerator.is_main_process else contextlib.nullcontext():
                results = _train(cfg, directory, group, accelerator)
    if finished is not None:
        on_main(accelerator, lambda: _require_same_data(cfg, finished))
        results = {**finished, "status": "skipped"}
    evaluations = score_on_other_tasks(cfg, directory.path, others, accelerator)
    if accelerator.is_main_process:
        print_results(make_console(), results, directory.path, evaluations)
        absent = _diagnostics_absent(cfg, directory)
        if absent:
            words = f"It was run without runtime.diagnostics={','.join(absent)}; rerun=true does it again with them."
            say(make_console(), words)
    return {**results, "directory": str(directory.path)}


def _open(cfg: DictConfig, directory: RunDirectory, claim: contextlib.ExitStack) -> dict[str, Any] | None:
    """The results of a finished run; else None, and the run is claimed until `claim` closes."""
    afresh = cfg.rerun and not directory.begun_by_this_job()
    finished = None if afresh else directory.results()
    if finished is not None and not directory.checkpoints.exists():
        return finished
    claim.enter_context(directory.claimed())
    if afresh:
        directory.clear()
    finished = directory.results()  # another process may have finished it in the meantime
    if finished is not None:
        Checkpoints(directory.checkpoints).clear()  # a run killed as it finished still had them
        claim.close()
    return finished


def _train(cfg: DictConfig, directory: RunDirectory, group: str | None, accelerator: Accelerator) -> dict[str, Any]:
    task = _task(cfg)
    teacher = None
    if "teacher" in cfg.method:
        teacher = teacher_folder(cfg, accelerator, train=lambda settings: run(settings, group))
    loaded = load_model(cfg.model, task, cfg.seed)
    if cfg.runtime.gradient_checkpointing:
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if accelerator.device.type == "cpu":
        tune(loaded.model)
    batching = make_batching(cfg.runtime.token_budget, accelerator, cfg.model.dtype)
    fingerprints = {"data": task.fingerprint, "weights": loaded.fingerprint}
    identity = on_main(accelerator, lambda: directory.begin(cfg, fingerprints))
    train = _encode(cfg, task, loaded, task.train)
    validation = [_encode(cfg, task, loaded, split) for split in task.validation]
    require_suitable(task, loaded.model, train)

    terms = make_terms(task, loaded.model)
    evaluator = make_evaluator(cfg, task, loaded, validation, terms, batching, accelerator)
    method = _make_method(cfg, task, train, loaded, terms, teacher, batching, accelerator)
    # Whatever the data and the teacher drew, training starts from the seed alone; each process drops out its own.
    torch.manual_seed(cfg.seed + RANK_STRIDE * accelerator.process_index)

    recorder = (
        _recorder(cfg, directory, task, identity["wandb_id"], group)
        if accelerator.is_main_process
        else SilentRecorder()
    )
    log.info(_opening(cfg, task, train, directory))
    recorded = None
    try:
        loop = TrainingLoop(
            model=loaded.model,
            method=method,
            examples=train,
            keep_predictions=terms.choices,
            evaluate=evaluator.scores,
            main_metric=task.metric,
            schedule=cfg.schedule,
            runtime=cfg.runtime,
            batching=batching,
            seed=cfg.seed,
            accelerator=accelerator,
            recorder=recorder,
            checkpoints=Checkpoints(directory.checkpoints, may_write=directory.require_claim),
            trace_to=directory.path / "trace.json.gz",
            make_probes=make_probes(cfg, task, loaded, terms, batching, accelerator),
        )
        outcome = loop.run()
        results = summarize(cfg, directory, task, train, loaded, outcome) | cost_of(teacher)
        precision, processes = precision_of(accelerator), accelerator.num_processes
        results |= {"processes": processes, "precision": precision}
        results |= utilization(outcome.progress, precision, accelerator.device, processes)
        predictions = evaluator.predictions(loop.model)

        def save() -> None:
            save_predictions(directory.path / "predictions.parquet", predictions)
            save_examples(directory.path / "examples.parquet", task, method.per_example())
            save_model(directory.path / "model", accelerator.unwrap_model(loop.model), loaded, cfg, task, results)
            recorder.flush()
            directory.finish(results)
            loop.checkpoints.clear()

        on_main(accelerator, save)
        recorded = results
        log.debug("finished: %s %.4f in %.1f s", task.metric, results["score"], results["seconds"])
    finally:
        recorder.close(recorded)
    return results


def _diagnostics_absent(cfg: DictConfig, directory: RunDirectory) -> list[str]:
    """Diagnostics that are asked for now, and that the finished run did not record."""
    ran_with = OmegaConf.load(directory.path / "config.yaml")
    recorded = diagnostics_of(OmegaConf.select(ran_with, "runtime.diagnostics"))
    return [name for name in diagnostics_of(cfg.runtime.diagnostics) if name not in recorded]


def _recorder(
    cfg: DictConfig, directory: RunDirectory, task: TaskData, wandb_id: str, group: str | None
) -> MetricsRecorder:
    """metrics.jsonl, the terminal and Weights & Biases."""
    watchers: list[Watcher] = [Terminal(make_console(), task.metric)]
    if cfg.tracking.backend == "wandb":
        watchers.append(WandbTracker(cfg, directory.path, wandb_id, group))
    return MetricsRecorder(directory.path / "metrics.jsonl", watchers)


def _opening(cfg: DictConfig, task: TaskData, train: Any, directory: RunDirectory) -> str:
    cut = f", {train.truncated} cut to {cfg.task.max_length} tokens" if train.truncated else ""
    return (
        f"{cfg.method.name} on {task.name}: {cfg.model.name}, {len(task.train):,} training and "
        f"{sum(map(len, task.validation)):,} validation examples{cut}; {directory.path}"
    )


# --- data ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _load_task(settings: str, data_dir: str, seed: int, cache: Path) -> TaskData:
    task = OmegaConf.create(settings)
    assert isinstance(task, DictConfig)
    return load_task(task, data_dir, seed, cache)


def _task(cfg: DictConfig) -> TaskData:
    """The task's data, read once in a process: a sweep asks for the same task again and again."""
    drawn = cfg.task.train_examples is not None or cfg.task.label_noise > 0
    seed = cfg.seed if drawn else 0  # nothing else of the data depends on it
    return _load_task(
        OmegaConf.to_yaml(cfg.task, resolve=True), str(cfg.paths.data), seed, Path(cfg.paths.cache).absolute()
    )


_encoded: dict[tuple[str, int], tuple[Split, Any]] = {}


def _encode(cfg: DictConfig, task: TaskData, loaded: LoadedModel, split: Split) -> Any:
    """The split in tokens, kept for the next run of a sweep; a task that was loaded anew is encoded anew."""
    key = (loaded.fingerprint, id(split))
    if key not in _encoded:
        if len(_encoded) >= 16:
            _encoded.clear()
        examples = encode_split(cfg.task, task, loaded.model, loaded.tokenizer, split)
        _encoded[key] = (split, examples)  # holding the split keeps its id its own
    return _encoded[key][1]


def _require_same_data(cfg: DictConfig, finished: dict[str, Any]) -> None:
    """Refuse an old result if the data changed since; where the data is gone, there is nothing to compare."""
    try:
        now = _task(cfg).fingerprint
    except UserError:
        return
    if finished["fingerprints"]["data"] != now:
        raise UserError(
            f"The data of task={cfg.task.name} changed since this run finished (key {finished['key']}). "
            "Its result is kept; rerun=true throws it away and starts afresh."
        )


# --- method --------------------------------------------------------------------------------------


def _make_method(
    cfg: DictConfig,
    task: TaskData,
    train: Any,
    loaded: LoadedModel,
    terms: Terms,
    teacher: Path | None,
    batching: Batching,
    accelerator: Accelerator,
) -> Method:
    """The method object, with its teacher's logits on the training set if it has a teacher."""
    logits = teacher_logits(cfg, task, loaded.tokenizer, teacher, batching, accelerator) if teacher else None
    settings = OmegaConf.to_container(cfg.method, resolve=True)
    assert isinstance(settings, dict)
    of_the_object = {name: value for name, value in settings.items() if name not in ("name", "teacher")}
    context = TrainingContext(terms, torch.from_numpy(train.labels), cfg.schedule.batch_size, logits)
    # In two steps, since Hydra would make a configuration of the context, and another error of a plugin's UserError.
    make_method = hydra.utils.instantiate(of_the_object, _partial_=True)
    method: Method = make_method(context=context)
    return method
