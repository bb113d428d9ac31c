"""A task's data, ready to be encoded: texts, labels and groups of each split.

load(cfg.task, KINDS, data_dir, seed)  # rte: 2,490 training pairs, 277 validation pairs, 2 labels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.tasks.added import with_added
from selfdistill_cli.tasks.findings import Repeats, findings
from selfdistill_cli.tasks.making import HELD_OUT, KEPT_FROM_BYTES, Maker, key, notes_of, rows_to_select_on
from selfdistill_cli.tasks.sampling import noisy_labels, subset_rows
from selfdistill_cli.tasks.sources import Source, find_source
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.summary import summary, summary_of_scored

if TYPE_CHECKING:
    from selfdistill_cli.kinds.base import Kind


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
    """The score that is reported is that of the first one."""
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
    """What was read, in a line; where no training split was asked for, what was recognised and left out, if anything was."""
    findings: tuple[str, ...] = ()
    """What is strange about it, a sentence each."""
    selection: Split | None = None
    """Held out from training to select on; None: the first validation split selects."""
    test: Split | None = None
    """Scored once, by the chosen model."""

    @property
    def while_training(self) -> TaskData:
        """The task as it is scored while it trains: on what selects, and on nothing else where that is held out."""
        return self if self.selection is None else replace(self, validation=[self.selection])

    @property
    def at_the_end(self) -> dict[str, TaskData]:
        """By name, the task as the chosen model alone is scored on it: validation where another split selects, test."""
        ends = {} if self.selection is None else {"validation": self}
        return ends if self.test is None else ends | {"test": replace(self, validation=[self.test])}

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
    maker = Maker(settings, kinds, source)
    if cache is None or source.size < KEPT_FROM_BYTES:
        kind, names, read, repeats = maker.in_memory()
    else:
        kind, names, read, repeats = maker.kept(cache / "tasks" / key(settings, source))
    train, selection = read.train, read.selection
    if settings.train_examples is not None:
        train = train.take(subset_rows(kind.strata(train.labels), settings.train_examples, seed, kind.has_classes))
    if settings.selection == HELD_OUT and selection is None:
        trained, others = rows_to_select_on(settings, kind, train)
        train, selection = train.take(trained), train.take(others)
    if train is not read.train or settings.validation_examples is not None:  # of what is trained on and scored
        scored = _first(read.validation[0], settings.validation_examples)
        repeats = Repeats.of(train, scored, kind.has_classes)
    found = tuple(findings(settings, names, read, train, repeats))
    sizes = len(train), 0 if selection is None else len(selection)
    words = summary(settings, kind.name, names, read, sizes, seed)
    if settings.label_noise:
        noisy = noisy_labels(train.labels, len(names), settings.label_noise, seed)
        train = replace(train, labels=noisy, clean_labels=train.labels)
    if settings.added is not None:
        train = with_added(train, Path(settings.added).expanduser(), settings.no_answer)
    data = _task_data(settings, source, kind, names, train, read.validation)
    if selection is not None:
        data = replace(data, selection=replace(selection, name="selection", role="selection", weights=None))
    if read.test is not None:
        data = replace(data, test=replace(_first(read.test, settings.validation_examples), name="test", role="test"))
    return replace(data, seed=seed, summary=words, findings=found)


def _first(split: Split, most: int | None) -> Split:
    return split if most is None else split.take(np.arange(min(len(split), most)))


def load_validation_alone(
    settings: DictConfig, kinds: Mapping[str, Kind], data_dir: str, cache: Path | None = None
) -> TaskData:
    """The validation splits that `load` gives, without the training split; `train` is empty.

    A benchmark needs no training split for it. A user's own training file is read, for its classes, and because the
    same fifth of it is held out if there is no validation file; a validation file alone is taken whole.
    Raises `UserError` as `load` does.
    """
    source = find_source(settings, data_dir, cache, with_train=False)
    maker = Maker(settings, kinds, source)
    if source.has_train:
        kind, names, read, _ = maker.in_memory()
        validation, notes = read.validation, read.notes
        left_out = read.left_out if read.held_out else read.left_out[1:]
    else:
        kind, names, make, splits, left_out = maker.rows()
        validation, notes = [make(raw) for raw in splits], notes_of(splits)
    data = _task_data(settings, source, kind, names, validation[0].take(np.arange(0)), validation)
    return replace(data, summary=summary_of_scored(source.description, notes, left_out))


def _task_data(
    settings: DictConfig, source: Source, kind: Kind, names: list[str], train: Split, validation: list[Split]
) -> TaskData:
    metrics = list(settings.metrics or kind.default_metrics)
    metric = settings.metric or metrics[0]
    few = [_first(split, settings.validation_examples) for split in validation]
    return TaskData(
        settings=settings,
        kind=kind,
        label_names=names,
        train=replace(train, role="train"),
        validation=[replace(split, role="evaluation" if number else "validation") for number, split in enumerate(few)],
        metrics=metrics if metric in metrics else [*metrics, metric],
        metric=metric,
        source=source.description,
        fingerprint=source.fingerprint,
        synthetic=settings.generator is not None,
    )
