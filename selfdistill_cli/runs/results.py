"""What a finished run leaves: results.json, and tables of its predictions and examples.

Imports nothing heavy at the top: launchers read results before anything is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.runs.costs import compute_by_part
from selfdistill_cli.runs.keys import model_slug, run_key
from selfdistill_cli.self_training.rounds import ABOUT
from selfdistill_cli.system.files import new_file, read_json

if TYPE_CHECKING:
    import pyarrow as pa

    from selfdistill_cli.engine.progress import Progress
    from selfdistill_cli.engine.runtime import Runtime
    from selfdistill_cli.evaluation.final import Final
    from selfdistill_cli.models import LoadedModel
    from selfdistill_cli.tasks import TaskData

SCHEMA_VERSION = 1
"""Raise it when a field of `Results` changes its meaning or goes. A new field with a default is no new version."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """results.json. A field that earlier versions did not write has a default, and is left out of the file if None."""

    key: str
    task: str
    model: str
    method: str
    seed: int
    metric: str
    """The task's main metric, of which `score` is the value."""
    score: float
    metrics: dict[str, dict[str, float] | None]
    """All metrics. Of the saved weights: `final` on the validation splits, `selection` on the part held out to select on,
    `test` on the test set, where there are such. Of what selects: `best` and `last`."""
    best_epoch: float
    epochs: float
    steps: int
    stopped_early: bool
    examples_forwarded: int
    """In training; a previous-batch method forwards each example twice an epoch."""
    compute: dict[str, dict[str, int]] | None = None
    """Examples forwarded (`forward`) and backward (`backward`), `tokens` and `flops`, and where answers were written the
    `generated_tokens` among the tokens, ends of sequence included; by part: `training`,
    `predictions` (of the training set, made for the method), `drawing` (answers drawn in training), `teacher` (all that
    it took to make it, and its predictions), `earlier_rounds` (of self-training, and what they drew), `total` of these,
    as this run would cost alone, and `evaluation`, which is apart. No `flops`: some part of it was done by a version that
    did not count them."""
    seconds: float
    """Of training, evaluation and checkpoints."""
    checkpoint_seconds: float
    step_seconds: float
    tokens: int
    """Forwarded in training, without padding."""
    train_examples: int
    truncated_examples: int
    parameters: int
    trained_parameters: int
    kind: str
    labels: list[str]
    data: str
    """Where the data came from, in words."""
    synthetic: bool
    fingerprints: dict[str, str]
    """Of data, starting weights and tokenizer."""
    processes: int
    precision: str
    padding: str = "longest"
    """What examples are filled up to: `longest` of each micro-batch, or `none` (older results do not say)."""
    tokens_per_s: float | None = None
    gflops_per_s: float | None = None
    """10^9 operations a second of the matrix products on real tokens."""
    matmul_gflops_per_s: float | None = None
    """The machine's own ceiling."""
    mfu: float | None = None
    phase_seconds: dict[str, float] | None = None
    """With `runtime.profile`."""
    overhead_seconds: float | None = None
    """Beside `seconds`, of the process that finished the run: reading and encoding data, loading, final predictions,
    saving. The teacher's training is none of it."""
    peak_memory_mb: float | None = None
    """10^6 bytes at most: of the GPU, or on a processor of the whole process."""
    teacher: dict[str, Any] | None = None
    """Key of the run that made the teacher, where one of ours did, and forwarded examples of it and of its own teachers."""
    generations: list[dict[str, Any]] | None = None
    """With `method.generations`: key, method and score of every generation before this one, from vanilla on."""
    majority: dict[str, Any] | None = None
    """Of a classification: the training split's most frequent class (`label`), and the main metric of always
    predicting it on the reported split (`score`)."""
    weights: dict[str, Any] | None = None
    """Of the training examples, with `task.weight` or `task.class_weights`: range, zeros, effective sample size."""
    writing: dict[str, float] | None = None
    """Of written answers in all evaluations: their number, tokens and seconds, and both a second."""
    self_training: dict[str, Any] | None = None
    """Of a round of self-training: its number, the key of the run that drew (`before`), how many answers were drawn,
    right and added, and their tokens."""
    remarks: list[str] | None = None
    """What a person should know before trusting the score, in words."""
    selected_on: str | None = None
    """What chose the epoch: `validation` (the reported split), `held_out` (a part of training), or `nothing`."""
    selection_score: float | None = None
    """The main metric on the part held out: what a sweep chooses by. None: by `score`."""
    fold: int | None = None
    """With `task.folds`: which one was validated on."""
    status: str = "finished"
    schema_version: int = SCHEMA_VERSION

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def objective(results: Mapping[str, Any]) -> float:
    """What a sweep chooses by, of a finished run: the score on the part held out to select on, else the reported one."""
    found = results.get("selection_score")
    return float(results["score"] if found is None else found)


def read_results(path: Path) -> Results | None:
    """What a results.json holds; None if there is none. Fields that this version does not know are passed over.

    Raises `UserError` if the file is damaged or a later version wrote it in another form.
    """
    content = read_json(path)
    if content is None:
        return None
    version = content.get("schema_version", SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} was written by a later version of selfdistill_cli (schema version {version}, here "
            f"{SCHEMA_VERSION}). Upgrade, or name another place for runs: paths.outputs=<folder>."
        )
    fields = dataclasses.fields(Results)
    missing = [each.name for each in fields if each.default is dataclasses.MISSING and each.name not in content]
    if missing:
        raise UserError(
            f"{path} is damaged: it has no {', '.join(missing)}. rerun=true in a command of this run alone starts it afresh."
        )
    return Results(**{each.name: content[each.name] for each in fields if each.name in content})


def summarize(
    cfg: DictConfig,
    task: TaskData,
    train: Any,
    loaded: LoadedModel,
    final: Final,
    teacher: Path | None,
    runtime: Runtime,
) -> Results:
    """The results of a run that is over. `train`: the encoded training set; `teacher`: its teacher's folder."""
    from selfdistill_cli.engine.utilization import utilization
    from selfdistill_cli.evaluation.majority import majority_score
    from selfdistill_cli.tasks.weights import described

    outcome, progress = final.outcome, final.outcome.progress
    compute = compute_by_part(
        runtime.compute, teacher, None if cfg.task.added is None else Path(cfg.task.added).expanduser()
    )
    used: dict[str, Any] = dict(
        utilization(compute["training"], progress.step_seconds, runtime.precision, runtime.device, runtime.processes)
    )
    return Results(
        key=run_key(cfg),
        task=cfg.task.name,
        model=model_slug(cfg.model.name),
        method=cfg.method.name,
        seed=cfg.seed,
        metric=task.metric,
        score=final.reported[task.metric],
        metrics=final.metrics,
        best_epoch=round(progress.best_step / outcome.steps_per_epoch, 6),
        epochs=round(progress.step / outcome.steps_per_epoch, 6),
        steps=progress.step,
        stopped_early=progress.stopped_early,
        examples_forwarded=progress.examples_forwarded,
        seconds=round(progress.seconds, 3),
        checkpoint_seconds=round(progress.checkpoint_seconds, 3),
        step_seconds=round(progress.step_seconds, 3),
        tokens=progress.tokens,
        train_examples=len(train),
        truncated_examples=train.truncated,
        parameters=loaded.model.num_parameters(),
        trained_parameters=loaded.model.num_parameters(only_trainable=True),
        kind=task.kind.name,
        labels=list(task.label_names),
        data=task.source,
        synthetic=task.synthetic,
        fingerprints={"data": task.fingerprint, **loaded.fingerprints},
        processes=runtime.processes,
        precision=runtime.precision,
        padding=runtime.rounding(loaded.model)["padding"],
        phase_seconds=_phase_seconds(progress),
        teacher=_made_by(teacher),
        compute={name: passes.as_dict() for name, passes in compute.items()},
        generations=_before(teacher) if "generations" in cfg.method else None,
        majority=majority_score(task),
        weights=described(train.weights),
        writing=runtime.compute.writing.as_dict() if runtime.compute.writing.answers else None,
        self_training=_round(cfg),
        remarks=[*([loaded.rounded.remark] if loaded.rounded else []), *final.remarks] or None,
        selected_on=cfg.task.selection if cfg.schedule.keep == "best" or cfg.schedule.patience else "nothing",
        selection_score=None if final.selected is None else final.selected[task.metric],
        fold=None if cfg.task.folds is None else cfg.task.fold,
        **used,
    )


def _phase_seconds(progress: Progress) -> dict[str, float] | None:
    """Seconds by phase, with what belongs to none (method, records, the terminal), if they were measured."""
    measured = progress.phase_seconds
    if not measured:
        return None
    other = progress.seconds - sum(measured.values())
    return {name: round(seconds, 3) for name, seconds in {**measured, "other": other}.items()}


def _round(cfg: DictConfig) -> dict[str, Any] | None:
    """What the round of self-training drew whose examples the run learns from beside the task's own."""
    return None if cfg.task.added is None else read_json(Path(cfg.task.added).expanduser().with_name(ABOUT))


def _made_by(teacher: Path | None) -> dict[str, Any] | None:
    """Which run of ours made the teacher, if one did."""
    if teacher is None:
        return None
    made_by = read_json(teacher.parent / "results.json") or {}
    its_own = (made_by.get("teacher") or {}).get("examples_forwarded") or 0
    forwarded = made_by["examples_forwarded"] + its_own if made_by else None
    return {"key": made_by.get("key"), "examples_forwarded": forwarded}


def _before(teacher: Path | None) -> list[dict[str, Any]]:
    """The generations up to the one that made the teacher."""
    last = {} if teacher is None else read_json(teacher.parent / "results.json") or {}
    return [*last.get("generations", []), {name: last.get(name) for name in ("key", "method", "score")}]


def save_predictions(path: Path, tables: list[pa.Table]) -> None:
    """predictions.parquet: every validation example's split, index, prediction and label."""
    import pyarrow as pa
    from pyarrow import parquet

    with new_file(path) as beside:
        parquet.write_table(pa.concat_tables(tables), beside)


def save_examples(path: Path, task: TaskData, train: Any, columns: dict[str, Any]) -> None:
    """examples.parquet: each training example's row in the source, its text and label, and what the method knows of it.

    With `task.label_noise` also `clean_label`, what the label was; with weights of examples or classes `weight`, of
    mean 1. Without any of these there is no such file. `train`: the encoded training set.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if not columns and task.train.clean_labels is None and train.weights is None:
        return
    rows, names = task.train, task.label_names
    table: dict[str, Any] = {"index": rows.rows, "label": rows.labels, "text": pa.array(list(rows.texts), pa.string())}
    if rows.pairs is not None:
        table["text_pair"] = pa.array(list(rows.pairs), pa.string())
    if names:
        table["label_name"] = pa.array([names[number] for number in rows.labels], pa.string())
    if rows.clean_labels is not None:
        table["clean_label"] = rows.clean_labels
    if train.weights is not None:
        table["weight"] = train.weights
    with new_file(path) as beside:
        parquet.write_table(pa.table(table | {name: values.numpy() for name, values in columns.items()}), beside)
