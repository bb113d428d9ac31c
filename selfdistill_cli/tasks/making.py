"""Makes the examples of a source: in memory, or of a large one in files that are kept and mapped into memory.

Maker(cfg.task, KINDS, source).in_memory()  # kind, label names, splits, and which texts stand in them twice
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.lease import missing
from selfdistill_cli.system.words import counted
from selfdistill_cli.tasks.findings import Repeats
from selfdistill_cli.tasks.labels import distinct_labels, infer_kind
from selfdistill_cli.tasks.missing import LeftOut, complete
from selfdistill_cli.tasks.partition import fold_rows, selection_rows, units
from selfdistill_cli.tasks.prepared import ROWS_AT_ONCE, in_parts, read_split, write_split
from selfdistill_cli.tasks.sampling import hold_out_rows
from selfdistill_cli.tasks.sources import RawSplit, Source
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.summary import WasRead

if TYPE_CHECKING:
    from selfdistill_cli.kinds.base import Kind

log = logging.getLogger(__name__)

KEPT_FROM_BYTES = 2**20
"""Of the source. Smaller ones are read as fast as they would be found."""
PREPARED_VERSION = 5
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

FIFTH = 5
"""One part in so many of a file without a validation split is held out to validate on."""
NOTHING_HELD_OUT: dict[str, Any] = {"selection": "validation", "selection_share": None}
HELD_OUT = "held_out"
"""The value of `task.selection` with which a part of training selects."""


def rows_to_select_on(settings: DictConfig, kind: Kind, train: Split) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training split to train on, and those held out to select on (`settings`: cfg.task)."""
    return selection_rows(kind.strata(train.labels), units(train), settings.selection_share, kind.has_classes)


def _rows_to_validate_on(settings: DictConfig, kind: Kind, train: Split) -> tuple[np.ndarray, np.ndarray]:
    """What is trained on and what is validated on of a file without a validation split: a fold, or a fifth."""
    strata = kind.strata(train.labels)
    if settings.folds is not None:
        return fold_rows(strata, units(train), settings.folds, settings.fold, kind.has_classes)
    if train.groups is None:
        return hold_out_rows(strata, kind.has_classes)
    together = units(train)  # a group is scored as a whole
    if len(np.unique(together)) < FIFTH:
        raise UserError(
            f"task.group={settings.group}: {counted(len(np.unique(together)), 'group')} are too few to hold out a fifth: give "
            "task.validation_path."
        )
    return fold_rows(strata, together, FIFTH, 0, kind.has_classes)


def _kind_of(settings: DictConfig, kinds: Mapping[str, Kind], splits: list[RawSplit]) -> Kind:
    """The configured kind, else what the labels look like."""
    if settings.kind:
        return kinds[settings.kind]
    return kinds[infer_kind([label for split in splits for label in distinct_labels(settings, split)])]


Made = tuple["Kind", list[str], WasRead, Repeats]
"""Kind, label names, splits, and which texts stand in them more than once."""


@dataclass(frozen=True)
class Maker:
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

    def in_memory(self) -> Made:
        """Everything that is read; a fifth or a fold is held out if there is no validation split."""
        kind, names, make, splits, left_out = self.rows()
        train, *validation = (make(raw) for raw in splits)
        test = validation.pop() if self.source.has_test else None
        held_out = not validation
        if held_out:
            kept, others = _rows_to_validate_on(self.settings, kind, train)
            train, validation = train.take(kept), [replace(train.take(others), name="validation")]
        read = WasRead(train, validation, held_out, left_out, notes_of(splits), test=test)
        return kind, names, read, Repeats.of(train, validation[0], kind.has_classes)

    def kept(self, folder: Path) -> Made:
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
        selection = validation.pop() if content["selection"] else None
        test = validation.pop() if self.source.has_test else None
        left_out = [LeftOut(**one) for one in content["left_out"]]
        read = WasRead(train, validation, content["held_out"], left_out, content["notes"], selection, test)
        return self.kinds[content["kind"]], content["names"], read, Repeats(**content["repeats"])

    def _write(self, folder: Path) -> None:
        kind, names, make, splits, left_out = self.rows()
        titles, notes = [raw.name for raw in splits], notes_of(splits)
        held_out = len(splits) == 1 + self.source.has_test
        if held_out:
            titles.insert(1, "validation")
        for number, raw in enumerate(splits):
            place = folder / f"{number + 1 if held_out and number else number}.arrow"
            write_split(place, (make(part) for part in raw.in_parts(ROWS_AT_ONCE)))
        del splits, raw  # a million rows, before as many are compared
        pa.default_memory_pool().release_unused()
        if held_out:
            _divide(folder, 1, partial(_rows_to_validate_on, self.settings, kind))
        train, validation = (read_split(folder / f"{number}.arrow", titles[number]) for number in range(2))
        repeats = Repeats.of(train, validation, kind.has_classes)
        selects = _selects_for_every_seed(self.settings)
        if selects:
            _divide(folder, len(titles), partial(rows_to_select_on, self.settings, kind))
            titles.append("selection")
        content = {
            "kind": kind.name,
            "names": names,
            "splits": titles,
            "held_out": held_out,
            "selection": selects,
            "notes": notes,
            "left_out": [asdict(one) for one in left_out],
            "repeats": asdict(repeats),
        }
        write_json(folder / "task.json", content)


def _divide(folder: Path, number: int, rows_of: Callable[[Split], tuple[np.ndarray, np.ndarray]]) -> None:
    """Move examples of the kept training split into another file, `<number>.arrow`."""
    split = read_split(folder / "0.arrow", "train")
    places = [folder / "0.arrow", folder / f"{number}.arrow"]
    for place, rows in zip(places, rows_of(split), strict=True):
        write_split(place.with_suffix(".part"), in_parts(split, rows))
    for place in places:
        place.with_suffix(".part").replace(place)


def _selects_for_every_seed(settings: DictConfig) -> bool:
    """Whether the same examples are held out whatever the seed: not from a subset that it draws."""
    return bool(settings.selection == HELD_OUT) and settings.train_examples is None


def notes_of(splits: list[RawSplit]) -> list[str]:
    """How the files were read, where that had to be recognised, each thing once."""
    return list(dict.fromkeys(note for raw in splits for note in raw.notes))


def key(task: DictConfig, source: Source) -> str:
    """What a prepared task depends on: everything but how many of its examples are taken."""
    settings: Any = OmegaConf.to_container(task, resolve=True)
    content = [
        PREPARED_VERSION,
        source.fingerprint,
        {**settings, **NOT_OF_WHAT_IS_KEPT, **({} if _selects_for_every_seed(task) else NOTHING_HELD_OUT)},
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
