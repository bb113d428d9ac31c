"""A task's data, ready to be encoded: texts, labels and groups of each split.

load_task(cfg.task, data_dir, seed)  # rte: 2,490 training pairs, 277 validation pairs, 2 labels
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.lease import missing
from selfdistill_cli.tasks.labels import LabelCodec, infer_kind
from selfdistill_cli.tasks.prepared import ROWS_AT_ONCE, in_parts, read_split, write_split
from selfdistill_cli.tasks.sampling import hold_out_rows, noisy_labels, subset_rows
from selfdistill_cli.tasks.sources import RawSplit, Source, find_source
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.templates import lists, render, values

log = logging.getLogger(__name__)

KEPT_FROM_BYTES = 2**20
"""Of the source. Smaller ones are read as fast as they would be found."""
PREPARED_VERSION = 1
"""Raise it when what is kept changes for the same source and settings."""
DEFAULT_METRICS = {
    "classification": ["accuracy", "macro_f1"],
    "regression": ["pearson", "spearman"],
    "generation": ["exact_match"],
    "multiple_choice": ["accuracy"],
}


@dataclass(frozen=True)
class TaskData:
    """Everything that a run needs to know of its task."""

    name: str
    kind: str
    """`classification`, `regression`, `generation` or `multiple_choice`."""
    label_names: list[str]
    """Class names by number; of a classification only."""
    train: Split
    validation: list[Split]
    """The first one selects the best model."""
    metrics: list[str]
    metric: str
    """The main metric, one of `metrics`; larger is better for all of them."""
    source: str
    """Where the data came from, in words."""
    fingerprint: str
    """Changes when the data does."""
    synthetic: bool

    @property
    def is_language_modeling(self) -> bool:
        """Whether a language model learns answers to prompts, and not a head labels."""
        return self.kind in ("generation", "multiple_choice")

    def named(self, split: Split, scores: dict[str, float]) -> dict[str, float]:
        """A split's scores by their names in the records: those of splits after the first carry the split's."""
        prefix = "" if split is self.validation[0] else f"{split.name}/"
        return {prefix + name: value for name, value in scores.items()}

    @property
    def label_range(self) -> float:
        """Largest minus smallest training label (regression); 1 if all are equal."""
        return float(np.ptp(self.train.labels)) or 1.0


def load_task(task: DictConfig, data_dir: str, seed: int, cache: Path | None = None) -> TaskData:
    """Read, check and label a task's splits.

    `seed` draws the subset of `task.train_examples` and the noise of `task.label_noise`. With a `cache`, a large task is kept there as files that are
    mapped into memory, and the next time only they are read. Raises `UserError` if the data is not there or not as
    the configuration says.
    """
    source = find_source(task, data_dir, cache)
    if cache is None or source.size < KEPT_FROM_BYTES:
        kind, names, (train, *validation) = _prepared(task, source)
    else:
        kind, names, (train, *validation) = _kept(task, source, cache / "tasks" / _key(task, source))
    if task.train_examples is not None:
        rows = subset_rows(train.labels, kind, task.train_examples, seed)
        train = train.take(rows)
    if task.label_noise:
        if kind != "classification":
            raise UserError(f"task.label_noise={task.label_noise}: only classes can be replaced by others.")
        noisy = noisy_labels(train.labels, len(names), task.label_noise, seed)
        train = replace(train, labels=noisy, clean_labels=train.labels)
    return _task_data(task, source, kind, names, train, _first_examples(task, validation))


def load_validation(task: DictConfig, data_dir: str, cache: Path | None = None) -> TaskData:
    """The validation splits that `load_task` gives, without the training split; `train` is empty.

    A benchmark needs no training split for it. A user's own training file is read, for its classes, and because the
    same fifth of it is held out if there is no validation file; a validation file alone is taken whole.
    Raises `UserError` as `load_task` does.
    """
    source = find_source(task, data_dir, cache, with_train=False)
    if source.has_train:
        kind, names, (_, *validation) = _prepared(task, source)
    else:
        kind, names, make = _recipe(task, splits := source.read())
        validation = [make(raw) for raw in splits]
    validation = _first_examples(task, validation)
    return _task_data(task, source, kind, names, validation[0].take(np.arange(0)), validation)


def _first_examples(task: DictConfig, validation: list[Split]) -> list[Split]:
    if task.validation_examples is None:
        return validation
    return [split.take(np.arange(min(len(split), task.validation_examples))) for split in validation]


def _task_data(
    task: DictConfig, source: Source, kind: str, names: list[str], train: Split, validation: list[Split]
) -> TaskData:
    metrics = list(task.metrics or DEFAULT_METRICS[kind])
    return TaskData(
        name=task.name,
        kind=kind,
        label_names=names,
        train=train,
        validation=validation,
        metrics=metrics,
        metric=task.metric or metrics[0],
        source=source.description,
        fingerprint=source.fingerprint,
        synthetic=task.generator is not None,
    )


def _prepared(task: DictConfig, source: Source) -> tuple[str, list[str], list[Split]]:
    """Kind, label names and splits, in memory; a fifth is held out if there is no validation split."""
    splits = source.read()
    kind, names, make = _recipe(task, splits)
    train, *validation = (make(raw) for raw in splits)
    if not validation:
        kept, held_out = hold_out_rows(train.labels, kind)
        train, validation = train.take(kept), [replace(train.take(held_out), name="validation")]
    return kind, names, [train, *validation]


def _kept(task: DictConfig, source: Source, folder: Path) -> tuple[str, list[str], list[Split]]:
    """The same from `folder`, which is filled first if it is not there."""
    with missing(folder) as beside:
        if beside is not None:
            log.info("preparing %s: the next run of it will find it in %s", source.description, folder)
            _write(task, source, beside)
            pa.default_memory_pool().release_unused()
    content = read_json(folder / "task.json")
    assert content is not None
    splits = [
        replace(read_split(folder / f"{number}.arrow", name), folder=folder / f"of_{number}")
        for number, name in enumerate(content["splits"])
    ]
    return content["kind"], content["names"], splits


def _write(task: DictConfig, source: Source, folder: Path) -> None:
    splits = source.read()
    kind, names, make = _recipe(task, splits)
    for number, raw in enumerate(splits):
        write_split(folder / f"{number}.arrow", (make(part) for part in raw.in_parts(ROWS_AT_ONCE)))
    titles = [raw.name for raw in splits]
    if len(splits) == 1:
        whole = folder / "0.arrow"
        split = read_split(whole, titles[0])
        titles = [titles[0], "validation"]
        for number, rows in enumerate(hold_out_rows(split.labels, kind)):
            write_split(folder / f"{number}.part", in_parts(split, rows))
        for number in range(2):
            (folder / f"{number}.part").replace(folder / f"{number}.arrow")
    write_json(folder / "task.json", {"kind": kind, "names": names, "splits": titles})


def _key(task: DictConfig, source: Source) -> str:
    """What a prepared task depends on: everything but how many of its examples are taken."""
    settings: Any = OmegaConf.to_container(task, resolve=True)
    content = [
        PREPARED_VERSION,
        source.fingerprint,
        {**settings, "train_examples": None, "validation_examples": None, "label_noise": 0.0, "label_map": {}},
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _recipe(task: DictConfig, splits: list[RawSplit]) -> tuple[str, list[str], Callable[[RawSplit], Split]]:
    """Kind and label names, and what makes examples of rows."""
    kind = task.kind or infer_kind([value for split in splits for value in split.distinct(task.label)])
    if kind == "generation":
        return kind, [], partial(_prompted_split, task)
    if kind == "multiple_choice":
        return kind, [], partial(_choice_split, task)
    codec = LabelCodec.for_task(task, kind, splits)
    return kind, codec.names, partial(_labelled_split, task, codec)


def _labelled_split(task: DictConfig, codec: LabelCodec, raw: RawSplit) -> Split:
    return replace(
        _texts_only(task, raw),
        pairs=render(task.text_pair, raw) if task.text_pair else None,
        labels=codec.encode(raw.column(task.label), raw.at),
        groups=render(task.group, raw) if task.group else None,
    )


def _prompted_split(task: DictConfig, raw: RawSplit) -> Split:
    answers = render(task.answer, raw)
    for row, answer in enumerate(answers):
        if not answer.strip():
            raise UserError(f"{raw.at(row)}: the answer is empty, so there is nothing to learn from it.")
    references = lists(task.references, raw) if task.references else [[answer] for answer in answers]
    return replace(_texts_only(task, raw), answers=answers, references=references)


def _choice_split(task: DictConfig, raw: RawSplit) -> Split:
    choices = lists(task.choices, raw)
    labels = np.empty(len(raw), dtype=np.int64)
    for row, (value, offered) in enumerate(zip(values(task.label, raw), choices, strict=True)):
        if str(value) not in map(str, range(len(offered))):
            raise UserError(f"{raw.at(row)}: label {value!r} is no number of its {len(offered)} choices.")
        if not all(choice.strip() for choice in offered):
            raise UserError(f"{raw.at(row)}: one of its choices is empty.")
        labels[row] = int(value)
    # A space as between the words of one text; the choices of a data set seldom begin with one.
    choices = [[f" {choice.strip()}" for choice in offered] for offered in choices]
    answers = [offered[label] for offered, label in zip(choices, labels, strict=True)]
    return replace(_texts_only(task, raw), labels=labels, answers=answers, choices=choices)


def _texts_only(task: DictConfig, raw: RawSplit) -> Split:
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no examples.")
    zeros = np.zeros(len(raw), dtype=np.int64)
    return Split(raw.name, render(task.text, raw), None, labels=zeros, rows=raw.first_row + np.arange(len(raw)))
