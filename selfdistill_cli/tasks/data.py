"""A task's data, ready to be encoded: texts, labels and groups of each split.

load(cfg.task, KINDS, data_dir, seed)  # rte: 2,490 training pairs, 277 validation pairs, 2 labels
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.lease import missing
from selfdistill_cli.tasks.labels import infer_kind
from selfdistill_cli.tasks.prepared import ROWS_AT_ONCE, in_parts, read_split, write_split
from selfdistill_cli.tasks.sampling import hold_out_rows, noisy_labels, subset_rows
from selfdistill_cli.tasks.sources import RawSplit, Source, find_source
from selfdistill_cli.tasks.split import Split

if TYPE_CHECKING:
    from selfdistill_cli.kinds.base import Kind

log = logging.getLogger(__name__)

KEPT_FROM_BYTES = 2**20
"""Of the source. Smaller ones are read as fast as they would be found."""
PREPARED_VERSION = 1
"""Raise it when what is kept changes for the same source and settings."""


@dataclass(frozen=True)
class TaskData:
    """Everything that a run needs to know of its task."""

    settings: DictConfig
    """The group `task` of the configuration."""
    kind: Kind
    label_names: list[str]
    """Class names by number; of a classification only."""
    train: Split
    validation: list[Split]
    """The first one selects the best model."""
    metrics: list[str]
    metric: str
    """The main metric, one of `metrics`; config/metrics.py says which way it is better."""
    source: str
    """Where the data came from, in words."""
    fingerprint: str
    """Changes when the data does."""
    synthetic: bool
    seed: int = 0
    """What drew the subset and the noise of the training split."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for equal examples: settings, content of the source, seed of what was drawn."""
        return OmegaConf.to_yaml(self.settings, resolve=True), self.fingerprint, self.seed

    @property
    def name(self) -> str:
        """Of the task."""
        return str(self.settings.name)

    @property
    def label_range(self) -> float:
        """Largest minus smallest training label (regression), of a task without training examples those of validation.

        1 if all are equal.
        """
        labels = self.train.labels if len(self.train) else self.validation[0].labels
        return float(np.ptp(labels)) or 1.0


def load(
    settings: DictConfig, kinds: Mapping[str, Kind], data_dir: str, seed: int, cache: Path | None = None
) -> TaskData:
    """Read, check and label a task's splits (`settings`: cfg.task).

    `seed` draws the subset of `task.train_examples` and the noise of `task.label_noise`. With a `cache`, a large task
    is kept there as files that are mapped into memory, and the next time only they are read. Raises `UserError` if the
    data is not there or not as the configuration says.
    """
    source = find_source(settings, data_dir, cache)
    reader = _Reader(settings, kinds, source)
    if cache is None or source.size < KEPT_FROM_BYTES:
        kind, names, (train, *validation) = reader.in_memory()
    else:
        kind, names, (train, *validation) = reader.kept(cache / "tasks" / _key(settings, source))
    if settings.train_examples is not None:
        train = train.take(subset_rows(kind.strata(train.labels), settings.train_examples, seed))
    if settings.label_noise:
        if not kind.has_classes:
            raise UserError(f"task.label_noise={settings.label_noise}: only classes can be replaced by others.")
        noisy = noisy_labels(train.labels, len(names), settings.label_noise, seed)
        train = replace(train, labels=noisy, clean_labels=train.labels)
    data = _task_data(settings, source, kind, names, train, validation)
    return replace(data, seed=seed)


def load_validation_alone(
    settings: DictConfig, kinds: Mapping[str, Kind], data_dir: str, cache: Path | None = None
) -> TaskData:
    """The validation splits that `load` gives, without the training split; `train` is empty.

    A benchmark needs no training split for it. A user's own training file is read, for its classes, and because the
    same fifth of it is held out if there is no validation file; a validation file alone is taken whole.
    Raises `UserError` as `load` does.
    """
    source = find_source(settings, data_dir, cache, with_train=False)
    if source.has_train:
        kind, names, (_, *validation) = _Reader(settings, kinds, source).in_memory()
    else:
        splits = source.read()
        kind = _kind_of(settings, kinds, splits)
        names, make = kind.read(settings, splits)
        validation = [make(raw) for raw in splits]
    return _task_data(settings, source, kind, names, validation[0].take(np.arange(0)), validation)


def _task_data(
    settings: DictConfig, source: Source, kind: Kind, names: list[str], train: Split, validation: list[Split]
) -> TaskData:
    metrics = list(settings.metrics or kind.default_metrics)
    metric = settings.metric or metrics[0]
    most = settings.validation_examples
    few = [split if most is None else split.take(np.arange(min(len(split), most))) for split in validation]
    return TaskData(
        settings=settings,
        kind=kind,
        label_names=names,
        train=replace(train, role="train"),
        validation=[replace(split, role="evaluation" if number else "selection") for number, split in enumerate(few)],
        metrics=metrics if metric in metrics else [*metrics, metric],
        metric=metric,
        source=source.description,
        fingerprint=source.fingerprint,
        synthetic=settings.generator is not None,
    )


def _kind_of(settings: DictConfig, kinds: Mapping[str, Kind], splits: list[RawSplit]) -> Kind:
    """The configured kind, else what the labels look like."""
    named = settings.kind or infer_kind([value for split in splits for value in split.distinct(settings.label)])
    return kinds[named]


@dataclass(frozen=True)
class _Reader:
    """Makes the examples of a source: in memory, or in files that are kept."""

    settings: DictConfig
    kinds: Mapping[str, Kind]
    source: Source

    def in_memory(self) -> tuple[Kind, list[str], list[Split]]:
        """Kind, label names and splits; a fifth is held out if there is no validation split."""
        splits = self.source.read()
        kind = _kind_of(self.settings, self.kinds, splits)
        names, make = kind.read(self.settings, splits)
        train, *validation = (make(raw) for raw in splits)
        if not validation:
            kept, held_out = hold_out_rows(kind.strata(train.labels))
            train, validation = train.take(kept), [replace(train.take(held_out), name="validation")]
        return kind, names, [train, *validation]

    def kept(self, folder: Path) -> tuple[Kind, list[str], list[Split]]:
        """The same from `folder`, which is filled first if it is not there."""
        with missing(folder) as beside:
            if beside is not None:
                log.info("preparing %s: the next run of it will find it in %s", self.source.description, folder)
                self._write(beside)
                pa.default_memory_pool().release_unused()
        content = read_json(folder / "task.json")
        assert content is not None
        splits = [
            replace(read_split(folder / f"{number}.arrow", name), folder=folder / f"of_{number}")
            for number, name in enumerate(content["splits"])
        ]
        return self.kinds[content["kind"]], content["names"], splits

    def _write(self, folder: Path) -> None:
        splits = self.source.read()
        kind = _kind_of(self.settings, self.kinds, splits)
        names, make = kind.read(self.settings, splits)
        for number, raw in enumerate(splits):
            write_split(folder / f"{number}.arrow", (make(part) for part in raw.in_parts(ROWS_AT_ONCE)))
        titles = [raw.name for raw in splits]
        if len(splits) == 1:
            whole = folder / "0.arrow"
            split = read_split(whole, titles[0])
            titles = [titles[0], "validation"]
            for number, rows in enumerate(hold_out_rows(kind.strata(split.labels))):
                write_split(folder / f"{number}.part", in_parts(split, rows))
            for number in range(2):
                (folder / f"{number}.part").replace(folder / f"{number}.arrow")
        write_json(folder / "task.json", {"kind": kind.name, "names": names, "splits": titles})


def _key(task: DictConfig, source: Source) -> str:
    """What a prepared task depends on: everything but how many of its examples are taken."""
    settings: Any = OmegaConf.to_container(task, resolve=True)
    content = [
        PREPARED_VERSION,
        source.fingerprint,
        {
            **settings,
            "train_examples": None,
            "validation_examples": None,
            "label_noise": 0.0,
            "label_map": {},
            "class_weights": None,
        },
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
