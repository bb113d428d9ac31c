"""One run, told in order: data, model, method, loop, evaluation, record."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.checks import eval_tasks_of
from selfdistill_cli.config.method_checks import never_acts, without_dropout
from selfdistill_cli.config.methods import holds_teacher
from selfdistill_cli.config.options import option
from selfdistill_cli.diagnostics.probes import make_probes
from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.device import as_here, naming_what_cannot_be_deterministic
from selfdistill_cli.engine.forwards import draws_at_random
from selfdistill_cli.engine.loop import TrainingLoop
from selfdistill_cli.engine.processes import on_main
from selfdistill_cli.engine.runtime import Runtime, make_runtime
from selfdistill_cli.engine.sharding import make_whole
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.base import Evaluator
from selfdistill_cli.evaluation.final import final_scores
from selfdistill_cli.kinds import load_task
from selfdistill_cli.methods import Method, TrainingContext
from selfdistill_cli.models import LoadedModel, load_model
from selfdistill_cli.models.adaptation import recompute_activations
from selfdistill_cli.models.compiling import compile_body
from selfdistill_cli.models.concatenated import leave_out_padding
from selfdistill_cli.models.cpu.tuning import tune
from selfdistill_cli.other_tasks import require_scorable, score_on_other_tasks
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import effective_schedule, scientific_settings
from selfdistill_cli.runs.model_card import save_model
from selfdistill_cli.runs.results import Results, save_examples, save_predictions, summarize
from selfdistill_cli.system.overhead import Overhead
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks import Split, TaskData, findings
from selfdistill_cli.tasks.weights import training_weights
from selfdistill_cli.teacher import is_taught, teacher_folder, teacher_logits, teacher_model
from selfdistill_cli.tracking import MetricsRecorder, SilentRecorder, Terminal, WandbTracker, Watcher
from selfdistill_cli.tracking.terminal import make_console, print_results, say

log = logging.getLogger(__name__)

READ_BY_THE_RUNNER = ("name", "teacher", "passes", "generations")
"""Settings of a method that are not given to its constructor."""
RANK_STRIDE = 1_000_003
"""Between the seeds of dropout in the processes of one run."""


def run(cfg: DictConfig, group: str | None = None, others: Sequence[DictConfig] | None = None) -> dict[str, Any]:
    """Do the run that `cfg` describes, go on with it, or return its results if it has finished.

    `group` names the sweep that the run belongs to, `others` are further tasks to be scored on (else those that
    `eval_tasks` names). Returns what results.json holds, the run's `directory`, and the scores on `other_tasks`.
    Several processes may do it together: the main one holds the run's lock, writes and speaks.
    """
    directory = RunDirectory(cfg)
    if others is None:
        others = [option("task", name) for name in eval_tasks_of(cfg.eval_tasks)]  # a wrong name is refused at once
    known = not cfg.rerun and directory.results() is not None  # it is shown on whatever machine this is
    where = as_here(cfg.runtime) if known else cfg.runtime
    runtime = make_runtime(where, cfg.model.dtype, directory.path / "trace.json.gz")
    with contextlib.ExitStack() as lock:
        finished = on_main(runtime.accelerator, lambda: _open(cfg, directory, lock))
        if finished is None:
            logging_to_file = directory.logging() if runtime.is_main else contextlib.nullcontext()
            try:
                with logging_to_file, naming_what_cannot_be_deterministic():
                    results = _train(cfg, directory, group, runtime, others)
            except UserError:
                if runtime.is_main:
                    directory.withdraw()
                raise
    if finished is not None:
        on_main(runtime.accelerator, lambda: _require_same_data(cfg, finished))
        on_main(runtime.accelerator, lambda: directory.note_asked(cfg))
        results = replace(finished, status="finished earlier")
    evaluations = score_on_other_tasks(cfg, directory.path, others, runtime)
    if runtime.is_main:
        print_results(make_console(), results.as_dict(), directory.path, evaluations)
        for line in [] if finished is None else directory.ran_otherwise(cfg):
            say(make_console(), line)
    other_tasks = {name: scored["score"] for name, scored in evaluations.items()}
    return results.as_dict() | {"directory": str(directory.path), "other_tasks": other_tasks}


def _open(cfg: DictConfig, directory: RunDirectory, lock: contextlib.ExitStack) -> Results | None:
    """The results of a finished run; else None, and the run is locked until `lock` closes."""
    afresh = cfg.rerun and not directory.begun_by_this_job()
    finished = None if afresh else directory.results()
    if finished is not None and not directory.checkpoints.exists():
        return finished
    lock.callback(directory.remove_if_empty)
    lock.enter_context(directory.held(afresh))
    finished = None if afresh else directory.results()  # another process may have finished it in the meantime
    if finished is not None:
        Checkpoints(directory.checkpoints).clear()  # a run killed as it finished still had them
        lock.close()
    return finished


def _train(
    cfg: DictConfig, directory: RunDirectory, group: str | None, runtime: Runtime, others: Sequence[DictConfig]
) -> Results:
    overhead = Overhead(runtime.device)
    task = task_data(cfg)
    task.kind.check(cfg, task.label_names)  # of a file of the user's own, the kind is known only now
    findings.report(task, runtime.is_main)
    require_scorable(cfg, task, others)
    teacher = None
    if is_taught(cfg, task.kind.name):
        with overhead.not_counted():  # its training is a run of its own
            teacher = teacher_folder(cfg, task, runtime, train=lambda settings: run(settings, group))
    overhead.forget_peak()
    loaded = load_model(cfg.model, task, cfg.seed, Path(cfg.paths.cache).absolute())
    if cfg.runtime.gradient_checkpointing:
        recompute_activations(loaded.model, cfg.model.name)
    if runtime.device.type == "cpu":
        tune(loaded.model)
    padding = "longest" if runtime.compiles else cfg.runtime.padding  # what has no padding has a form of its own
    leave_out_padding(loaded.model, padding, runtime.device, few_shapes=runtime.precision == "bf16")
    fingerprints = {"data": task.fingerprint, **loaded.fingerprints}
    on_main(runtime.accelerator, lambda: directory.require_same(fingerprints))
    task.kind.prepare_tokenizer(task, loaded.tokenizer)
    train = _encoded(task, loaded, task.train)
    if (weights := training_weights(task)) is not None:
        train = replace(train, weights=weights)
    task.kind.require_suitable(loaded.model, train)
    findings.report_cut(cfg.task, train, runtime.is_main)

    losses = task.kind.losses(task, loaded.model)

    def evaluator_of(scored: TaskData) -> Evaluator:
        encoded = [_encoded(task, loaded, split) for split in scored.validation]
        return task.kind.evaluator(scored, loaded, encoded, losses, runtime, cfg.seed)

    evaluator = evaluator_of(task.while_training)
    at_the_end = {name: evaluator_of(scored) for name, scored in task.at_the_end.items()}  # before hours of training
    held = teacher is not None and holds_teacher(cfg.method)
    taught = None if teacher is None or held else teacher_logits(cfg, task, loaded, train, teacher, runtime)
    context = replace(
        TrainingContext.of(losses, train, cfg.schedule.batch_size, taught, runtime.device),
        teacher=teacher_model(cfg, task, loaded, train, teacher, runtime) if teacher is not None and held else None,
        make_writer=partial(task.kind.answer_writer, task, loaded, train, runtime, cfg.seed)
        if task.kind.writes
        else None,
    )
    method = make_method(cfg, context)
    if method.needs_dropout and not draws_at_random(loaded.model, train):
        raise without_dropout(cfg, f"{cfg.model.name} drops nothing")
    if runtime.compiles:
        compile_body(loaded.model, cfg.runtime.deterministic)
    # Whatever the data and the teacher drew, training starts from the seed alone; each process drops out its own.
    torch.manual_seed(cfg.seed + RANK_STRIDE * runtime.accelerator.process_index)

    # Nothing is refused from here on, so what a rerun replaces may go.
    identity = on_main(runtime.accelerator, lambda: directory.begin(cfg, fingerprints))
    recorder = _recorder(cfg, directory, task, identity["wandb_id"], group) if runtime.is_main else SilentRecorder()
    log.info(_opening(cfg, task, train, directory))
    if cfg.runtime.shard == "full" and not runtime.shards:
        log.info("runtime.shard=full: there is one process, which keeps the whole model, as with runtime.shard=none")
    recorded = None
    try:
        loop = TrainingLoop(
            model=loaded.model,
            method=method,
            examples=train,
            evaluator=evaluator,
            schedule=effective_schedule(cfg),
            seed=cfg.seed,
            runtime=runtime,
            recorder=recorder,
            checkpoints=Checkpoints(directory.checkpoints, may_write=directory.require_lock),
            make_probes=make_probes(task.while_training, loaded, losses, runtime),
        )
        steps = loop.order.steps_per_epoch  # with schedule.max_steps, or in the last step, it takes the data to know
        if never := never_acts(cfg.method, loop.total_steps / steps, 1 / steps):
            log.warning("%s", never)
        with overhead.not_counted():
            outcome = loop.run()
        final = final_scores(loop.model, outcome, evaluator, at_the_end)
        results = summarize(cfg, task, train, loaded, final, teacher, runtime)
        results = replace(results, key=directory.key)  # a file of which it is made may have changed since

        model = runtime.unwrap(loop.model)
        make_whole(model, keep=runtime.is_main)

        def save() -> None:
            directory.require_lock()
            save_predictions(directory.path / "predictions.parquet", final.predictions)
            save_examples(directory.path / "examples.parquet", task, train, method.per_example())
            save_model(directory.path / "model", model, loaded, cfg, task, results)
            recorder.flush()
            directory.finish(replace(results, **overhead.as_fields()))
            loop.checkpoints.clear()

        on_main(runtime.accelerator, save)
        recorded = results.as_dict()
        log.debug("finished: %s %.4f in %.1f s", task.metric, results.score, results.seconds)
    finally:
        recorder.close(recorded)
    return results


def _recorder(
    cfg: DictConfig, directory: RunDirectory, task: TaskData, wandb_id: str, group: str | None
) -> MetricsRecorder:
    """metrics.jsonl, the terminal and Weights & Biases."""
    watchers: list[Watcher] = [Terminal(make_console(), task.metric)]
    if cfg.tracking.backend == "wandb":
        watchers.append(WandbTracker(cfg, directory.path, wandb_id, group))
    return MetricsRecorder(directory.path / "metrics.jsonl", watchers)


def _opening(cfg: DictConfig, task: TaskData, train: Any, directory: RunDirectory) -> str:
    cut = f", {train.truncated:,} of {len(train):,} cut there" if train.truncated else ""
    held_out = f", {len(task.selection):,} held out to select on" if task.selection is not None else ""
    return (
        f"{cfg.method.name} on {task.name}: {cfg.model.name}, {len(task.train):,} training and "
        f"{counted(sum(map(len, task.validation)), 'validation example')}{held_out}; longest {counted(train.uncut, 'token')}, "
        f"task.max_length={cfg.task.max_length}{cut}; {directory.path}"
    )


# --- data ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _load_task(settings: str, content: str, data_dir: str, seed: int, cache: Path) -> TaskData:
    """`content`: the task as a key has it, so that files which change during a sweep are read anew."""
    task: Any = OmegaConf.create(settings)
    return load_task(task, data_dir, seed, cache)


def task_data(cfg: DictConfig) -> TaskData:
    """The task's data, read once in a process: a sweep asks for the same task again and again."""
    drawn = cfg.task.train_examples is not None or cfg.task.label_noise > 0
    seed = cfg.seed if drawn else 0  # nothing else of the data depends on it
    content = json.dumps(scientific_settings(cfg)["task"], sort_keys=True, default=str)
    cache = Path(cfg.paths.cache).absolute()
    return _load_task(OmegaConf.to_yaml(cfg.task, resolve=True), content, str(cfg.paths.data), seed, cache)


@lru_cache(maxsize=16)
def _kept(task_identity: tuple[Any, ...], model: tuple[str, ...], split: tuple[str, str]) -> dict[str, Any]:
    """A place for one split's tokens, shared by the runs of a sweep in this process."""
    return {}


def _encoded(task: TaskData, loaded: LoadedModel, split: Split) -> Any:
    """The split in tokens, made once for all runs of a sweep."""
    model = tuple(loaded.fingerprints.values())  # equal weights may come with another tokenizer
    place = _kept(task.identity, model, (split.role, split.name))
    if "examples" not in place:
        place["examples"] = task.kind.encode(task, loaded, split)
    return place["examples"]


def _require_same_data(cfg: DictConfig, finished: Results) -> None:
    """Refuse an old result if the data changed since; where the data is gone, there is nothing to compare."""
    try:
        now = task_data(cfg).fingerprint
    except UserError:
        return
    if finished.fingerprints["data"] != now:
        raise UserError(
            f"The data of task={cfg.task.name} changed since this run finished (key {finished.key}). "
            "Its result is kept; rerun=true throws it away and starts afresh."
        )


# --- method --------------------------------------------------------------------------------------


def make_method(cfg: DictConfig, context: TrainingContext) -> Method:
    settings: Any = OmegaConf.to_container(cfg.method, resolve=True)
    of_the_object = {name: value for name, value in settings.items() if name not in READ_BY_THE_RUNNER}
    # In two steps, since Hydra would make a configuration of the context, and another error of a plugin's UserError.
    make_method = hydra.utils.instantiate(of_the_object, _partial_=True)
    method: Method = make_method(context=context)
    return method
