"""A task's data, ready to be encoded: texts, labels and groups of each split.

load_task(cfg.task, data_dir, seed)  # rte: 2,490 training pairs, 277 validation pairs, 2 labels
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.labels import LabelCodec, infer_kind
from selfdistill_cli.tasks.sampling import hold_out_rows, subset_rows
from selfdistill_cli.tasks.sources import RawSplit, read_splits

DEFAULT_METRICS = {"classification": ["accuracy", "macro_f1"], "regression": ["pearson", "spearman"]}


@dataclass(frozen=True)
class Split:
    """Examples of one split. All sequences have the same length."""

    name: str
    texts: list[str]
    pairs: list[str] | None
    labels: np.ndarray
    """Class numbers (int64), or floats (float32) in regression."""
    rows: np.ndarray
    """Row numbers in the source."""
    groups: list[str] | None = None
    """Which examples are scored together, for metrics over groups."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Split:
        """These examples only, in this order."""
        return replace(
            self,
            texts=[self.texts[i] for i in rows],
            pairs=None if self.pairs is None else [self.pairs[i] for i in rows],
            labels=self.labels[rows],
            rows=self.rows[rows],
            groups=None if self.groups is None else [self.groups[i] for i in rows],
        )


@dataclass(frozen=True)
class TaskData:
    """Everything that a run needs to know of its task."""

    name: str
    kind: str
    """`classification` or `regression`."""
    label_names: list[str]
    """Class names by number; empty in regression."""
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
    codec = LabelCodec.for_task(task, kind, source.splits)
    train, *validation = (_make_split(task, raw, codec) for raw in source.splits)
    if not validation:
        kept, held_out = hold_out_rows(train.labels, kind)
        train, validation = train.take(kept), [replace(train.take(held_out), name="validation")]
    if task.train_examples is not None:
        train = train.take(subset_rows(train.labels, kind, task.train_examples, seed))
    metrics = list(task.metrics or DEFAULT_METRICS[kind])
    return TaskData(
        name=task.name,
        kind=kind,
        label_names=codec.names,
        train=train,
        validation=validation,
        metrics=metrics,
        metric=task.metric or metrics[0],
        source=source.description,
        fingerprint=source.fingerprint,
        synthetic=task.generator is not None,
    )


def _make_split(task: DictConfig, raw: RawSplit, codec: LabelCodec) -> Split:
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no examples.")
    return Split(
        name=raw.name,
        texts=_render(task.text, raw),
        pairs=_render(task.text_pair, raw) if task.text_pair else None,
        labels=codec.encode(raw.column(task.label), raw.origin),
        rows=np.arange(len(raw)),
        groups=_render(task.group, raw) if task.group else None,
    )


def template_columns(template: str) -> list[str]:
    """The columns that a text setting reads: itself, or the fields of a template like "{word}: {text}"."""
    if "{" not in template:
        return [template]
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _render(template: str, raw: RawSplit) -> list[str]:
    """The text of every row: a column, or a template filled in."""
    names = template_columns(template)
    columns = [[_text(value, row, name, raw) for row, value in enumerate(raw.column(name))] for name in names]
    if "{" not in template:
        return columns[0]
    return [template.format(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def _text(value: Any, row: int, column: str, raw: RawSplit) -> str:
    if value is None:
        raise UserError(f"{raw.origin}, row {row}: column '{column}' is empty.")
    return value if isinstance(value, str) else str(value)
