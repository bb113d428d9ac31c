"""A task's data, ready to be encoded: texts, labels and groups of each split.

load(cfg.task, KINDS, data_dir, seed)  # rte: 2,490 training pairs, 277 validation pairs, 2 labels
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.lease import missing
from selfdistill_cli.tasks.findings import Repeats, findings
from selfdistill_cli.tasks.labels import distinct_labels, infer_kind
from selfdistill_cli.tasks.missing import LeftOut, complete
from selfdistill_cli.tasks.prepared import ROWS_AT_ONCE, in_parts, read_split, write_split
from selfdistill_cli.tasks.sampling import hold_out_rows, noisy_labels, subset_rows
from selfdistill_cli.tasks.sources import RawSplit, Source, find_source
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.summary import WasRead, summary

if TYPE_CHECKING:
    from selfdistill_cli.kinds.base import Kind

log = logging.getLogger(__name__)

KEPT_FROM_BYTES = 2**20
"""Of the source. Smaller ones are read as fast as they would be found."""
PREPARED_VERSION = 2
"""Raise it when what is kept changes for the same source and settings."""
NOT_OF_WHAT_IS_KEPT: dict[str, Any] = {
    "train_examples": None,
    "validation_examples": None,
    "label_noise": 0.0,
    "label_map": {},
    "class_weights": None,
    "strict": False,
}
"""Settings that change nothing in what is kept, at one value each."""


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
    summary: str = ""
    """What was read, in a line."""
    findings: tuple[str, ...] = ()
    """What is strange about it, a sentence each."""

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
        kind, names, read, repeats = reader.in_memory()
    else:
        kind, names, read, repeats = reader.kept(cache / "tasks" / _key(settings, source))
    train = read.train
    if settings.train_examples is not None:
        train = train.take(subset_rows(kind.strata(train.labels), settings.train_examples, seed, kind.has_classes))
    found = tuple(findings(settings, names, read, train, repeats))
    words = summary(settings, kind.name, names, read, train, seed)
    if settings.label_noise:
        noisy = noisy_labels(train.labels, len(names), settings.label_noise, seed)
        train = replace(train, labels=noisy, clean_labels=train.labels)
    data = _task_data(settings, source, kind, names, train, read.validation)
    return replace(data, seed=seed, summary=words, findings=found)


def load_validation_alone(
    settings: DictConfig, kinds: Mapping[str, Kind], data_dir: str, cache: Path | None = None
) -> TaskData:
    """The validation splits that `load` gives, without the training split; `train` is empty.

    A benchmark needs no training split for it. A user's own training file is read, for its classes, and because the
    same fifth of it is held out if there is no validation file; a validation file alone is taken whole.
    Raises `UserError` as `load` does.
    """
    source = find_source(settings, data_dir, cache, with_train=False)
    reader = _Reader(settings, kinds, source)
    if source.has_train:
        kind, names, read, _ = reader.in_memory()
        validation = read.validation
    else:
        kind, names, make, splits, _ = reader.rows()
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
    if settings.kind:
        return kinds[settings.kind]
    return kinds[infer_kind([label for split in splits for label in distinct_labels(settings, split)])]


_Made = tuple["Kind", list[str], WasRead, Repeats]
"""Kind, label names, splits, and which texts stand in them more than once."""


@dataclass(frozen=True)
class _Reader:
    """Makes the examples of a source: in memory, or in files that are kept."""

    settings: DictConfig
    kinds: Mapping[str, Kind]
    source: Source

    def rows(self) -> tuple[Kind, list[str], Callable[[RawSplit], Split], list[RawSplit], list[LeftOut]]:
        """Kind, label names, what makes examples of rows, and the rows of each split, those left out apart."""
        splits = self.source.read()
        kind = _kind_of(self.settings, self.kinds, splits)
        kind.check_task(self.settings)  # of a file of the user's own, the kind is known only now
        splits, left_out = complete(self.settings, kind.name, splits)
        names, make = kind.read(self.settings, splits)
        return kind, names, make, splits, left_out

    def in_memory(self) -> _Made:
        """Everything that is read; a fifth is held out if there is no validation split."""
        kind, names, make, splits, left_out = self.rows()
        train, *validation = (make(raw) for raw in splits)
        held_out = not validation
        if held_out:
            kept, others = hold_out_rows(kind.strata(train.labels), kind.has_classes)
            train, validation = train.take(kept), [replace(train.take(others), name="validation")]
        read = WasRead(train, validation, held_out, left_out, _notes_of(splits))
        return kind, names, read, Repeats.of(train, validation[0], kind.has_classes)

    def kept(self, folder: Path) -> _Made:
        """The same from `folder`, which is filled first if it is not there."""
        with missing(folder) as beside:
            if beside is not None:
                log.info("preparing %s: the next run of it will find it in %s", self.source.description, folder)
                self._write(beside)
        content = read_json(folder / "task.json")
        assert content is not None
        train, *validation = (
            replace(read_split(folder / f"{number}.arrow", name), folder=folder / f"of_{number}")
            for number, name in enumerate(content["splits"])
        )
        left_out = [LeftOut(**one) for one in content["left_out"]]
        read = WasRead(train, validation, content["held_out"], left_out, content["notes"])
        return self.kinds[content["kind"]], content["names"], read, Repeats(**content["repeats"])

    def _write(self, folder: Path) -> None:
        kind, names, make, splits, left_out = self.rows()
        for number, raw in enumerate(splits):
            write_split(folder / f"{number}.arrow", (make(part) for part in raw.in_parts(ROWS_AT_ONCE)))
        titles, notes, held_out = [raw.name for raw in splits], _notes_of(splits), len(splits) == 1
        del splits, raw  # a million rows, before as many are compared
        pa.default_memory_pool().release_unused()
        if held_out:
            whole = folder / "0.arrow"
            split = read_split(whole, titles[0])
            titles = [titles[0], "validation"]
            for number, rows in enumerate(hold_out_rows(kind.strata(split.labels), kind.has_classes)):
                write_split(folder / f"{number}.part", in_parts(split, rows))
            for number in range(2):
                (folder / f"{number}.part").replace(folder / f"{number}.arrow")
        train, validation = (read_split(folder / f"{number}.arrow", titles[number]) for number in range(2))
        content = {
            "kind": kind.name,
            "names": names,
            "splits": titles,
            "held_out": held_out,
            "notes": notes,
            "left_out": [asdict(one) for one in left_out],
            "repeats": asdict(Repeats.of(train, validation, kind.has_classes)),
        }
        write_json(folder / "task.json", content)


def _notes_of(splits: list[RawSplit]) -> list[str]:
    """How the files were read, where that had to be recognised, each thing once."""
    return list(dict.fromkeys(note for raw in splits for note in raw.notes))


def _key(task: DictConfig, source: Source) -> str:
    """What a prepared task depends on: everything but how many of its examples are taken."""
    settings: Any = OmegaConf.to_container(task, resolve=True)
    content = [
        PREPARED_VERSION,
        source.fingerprint,
        {**settings, **NOT_OF_WHAT_IS_KEPT},
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
