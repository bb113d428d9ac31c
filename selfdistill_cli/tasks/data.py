"""A task's data, ready to be encoded: texts, labels and groups of each split.

load_task(cfg.task, data_dir, seed)  # rte: 2,490 training pairs, 277 validation pairs, 2 labels
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.labels import LabelCodec, infer_kind
from selfdistill_cli.tasks.sampling import hold_out_rows, subset_rows
from selfdistill_cli.tasks.sources import RawSplit, read_splits
from selfdistill_cli.tasks.templates import lists, render, values

DEFAULT_METRICS = {
    "classification": ["accuracy", "macro_f1"],
    "regression": ["pearson", "spearman"],
    "generation": ["exact_match"],
    "multiple_choice": ["accuracy"],
}


@dataclass(frozen=True)
class Split:
    """Examples of one split. All sequences have the same length."""

    name: str
    texts: list[str]
    """In generation and multiple choice, the prompts."""
    pairs: list[str] | None
    labels: np.ndarray
    """Class numbers (int64), numbers of the right choice, floats (float32) in regression; zeros in generation."""
    rows: np.ndarray
    """Row numbers in the source."""
    groups: list[str] | None = None
    """Which examples are scored together, for metrics over groups."""
    answers: list[str] | None = None
    """What is learned after the prompt (generation, multiple choice)."""
    references: list[list[str]] | None = None
    """Acceptable answers (generation)."""
    choices: list[list[str]] | None = None
    """All answers to choose from (multiple choice)."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Split:
        """These examples only, in this order."""
        return replace(
            self,
            texts=[self.texts[i] for i in rows],
            pairs=_taken(self.pairs, rows),
            labels=self.labels[rows],
            rows=self.rows[rows],
            groups=_taken(self.groups, rows),
            answers=_taken(self.answers, rows),
            references=_taken(self.references, rows),
            choices=_taken(self.choices, rows),
        )


def _taken(column: list[Any] | None, rows: np.ndarray) -> list[Any] | None:
    return None if column is None else [column[i] for i in rows]


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


def load_task(task: DictConfig, data_dir: str, seed: int) -> TaskData:
    """Read, check and label a task's splits.

    `seed` draws the subset of `task.train_examples`. Raises `UserError` if the data is not there or
    not as the configuration says.
    """
    source = read_splits(task, data_dir)
    kind = task.kind or infer_kind([row for split in source.splits for row in split.column(task.label)])
    names: list[str] = []
    if kind in ("generation", "multiple_choice"):
        make = _prompted_split if kind == "generation" else _choice_split
        train, *validation = (make(task, raw) for raw in source.splits)
    else:
        codec = LabelCodec.for_task(task, kind, source.splits)
        names = codec.names
        train, *validation = (_labelled_split(task, raw, codec) for raw in source.splits)
    if not validation:
        kept, held_out = hold_out_rows(train.labels, kind)
        train, validation = train.take(kept), [replace(train.take(held_out), name="validation")]
    if task.train_examples is not None:
        train = train.take(subset_rows(train.labels, kind, task.train_examples, seed))
    if task.validation_examples is not None:
        validation = [split.take(np.arange(min(len(split), task.validation_examples))) for split in validation]
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


def _labelled_split(task: DictConfig, raw: RawSplit, codec: LabelCodec) -> Split:
    return replace(
        _texts_only(task, raw),
        pairs=render(task.text_pair, raw) if task.text_pair else None,
        labels=codec.encode(raw.column(task.label), raw.origin),
        groups=render(task.group, raw) if task.group else None,
    )


def _prompted_split(task: DictConfig, raw: RawSplit) -> Split:
    answers = render(task.answer, raw)
    for row, answer in enumerate(answers):
        if not answer.strip():
            raise UserError(f"{raw.origin}, row {row}: the answer is empty, so there is nothing to learn from it.")
    references = lists(task.references, raw) if task.references else [[answer] for answer in answers]
    return replace(_texts_only(task, raw), answers=answers, references=references)


def _choice_split(task: DictConfig, raw: RawSplit) -> Split:
    choices = lists(task.choices, raw)
    labels = np.empty(len(raw), dtype=np.int64)
    for row, (value, offered) in enumerate(zip(values(task.label, raw), choices, strict=True)):
        if str(value) not in map(str, range(len(offered))):
            raise UserError(f"{raw.origin}, row {row}: label {value!r} is no number of its {len(offered)} choices.")
        if not all(choice.strip() for choice in offered):
            raise UserError(f"{raw.origin}, row {row}: one of its choices is empty.")
        labels[row] = int(value)
    # A space as between the words of one text; the choices of a data set seldom begin with one.
    choices = [[f" {choice.strip()}" for choice in offered] for offered in choices]
    answers = [offered[label] for offered, label in zip(choices, labels, strict=True)]
    return replace(_texts_only(task, raw), labels=labels, answers=answers, choices=choices)


def _texts_only(task: DictConfig, raw: RawSplit) -> Split:
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no examples.")
    zeros = np.zeros(len(raw), dtype=np.int64)
    return Split(raw.name, render(task.text, raw), None, labels=zeros, rows=np.arange(len(raw)))
