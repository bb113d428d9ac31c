"""One line that says what was read, so that a wrong guess is seen at once.

read in.csv: 800 rows, classification (read off the labels), 3 classes (negative 310, neutral 200, positive 290);
a fifth (160 rows, seed 0) is held out for validation
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.config.metrics import asked_metrics
from selfdistill_cli.system.words import counted, listed
from selfdistill_cli.tasks.missing import LeftOut
from selfdistill_cli.tasks.sampling import HOLD_OUT_SEED
from selfdistill_cli.tasks.split import Split

OF_CLASS_ONE = ("f1", "precision", "recall")
"""Metrics of the second of two classes, which in a user's own file is the one that sorts second."""
FEW = 6
"""Up to so many classes are all named, of more the first three."""


@dataclass(frozen=True)
class WasRead:
    """What is known of a task's splits once they are read and before any are drawn."""

    train: Split
    validation: list[Split]
    held_out: bool
    """Whether the validation split is a part of the training file."""
    left_out: list[LeftOut]
    notes: list[str]
    """How the files were read, where that had to be recognised."""
    selection: Split | None = None
    """Of the training split, what is held out to select on."""
    test: Split | None = None

    def counts(self, classes: int) -> np.ndarray:
        """Examples of each class in what was read to be trained on, a held-out part with it: int64 [C]."""
        return np.bincount(self.labels(), minlength=classes)

    def labels(self) -> np.ndarray:
        """Of the training split as it was read, with what is held out from it."""
        splits = [
            self.train,
            *(self.validation if self.held_out else []),
            *([self.selection] if self.selection else []),
        ]
        return np.concatenate([split.labels for split in splits])


def summary(
    settings: DictConfig, kind: str, names: Sequence[str], read: WasRead, drawn: tuple[int, int], seed: int
) -> str:
    """The line (`settings`: cfg.task).

    `drawn`: how many examples are trained on and how many select, drawn by `seed` if they are not all.
    """
    trained, used, every = len(read.labels()), sum(drawn), len(read.train) + len(read.selection or ())
    guessed = " (read off the labels)" if settings.kind is None else ""
    what = f"{kind.replace('_', ' ')}{guessed}{_labels(kind, names, read)}"
    first = read.validation[0]
    if settings.path is None:
        sizes = " + ".join(f"{len(split):,}" for split in read.validation)
        of_own = f" (of {settings.validation_path})" if settings.validation_path else ""
        words = f"read {settings.name}: {trained:,} training and {sizes} validation rows{of_own}, {what}"
    else:
        words = f"read {settings.path}: {trained:,} rows, {what}; "
        if read.held_out:
            part = "a fifth" if settings.folds is None else f"fold {settings.fold} of {settings.folds}, counted from 0"
            words += f"{part} ({counted(len(first), 'row')}, seed {HOLD_OUT_SEED}) is held out for validation"
        else:
            words += f"{counted(len(first), 'row')} of {settings.validation_path} for validation"
    words += "".join(f"; {one}" for one in _how_read(read.notes, read.left_out))
    of_one = [metric for metric in asked_metrics(settings) if metric in OF_CLASS_ONE]
    if of_one and len(names) == 2 and not settings.labels:
        words += (
            f"; {listed(of_one)} {'is' if len(of_one) == 1 else 'are'} of class {names[1]!r} "
            f"(task.labels={json.dumps(names[::-1], ensure_ascii=False, separators=(',', ':'))}: of {names[0]!r})"
        )
    if used < every:
        words += f"; {used:,} of {every:,} are drawn for training (seed {seed})"
    if drawn[1]:
        words += f"; {drawn[1]:,} of {used:,} training rows (seed {HOLD_OUT_SEED}) are held out to select on"
    if read.test is not None:
        words += (
            f"; {counted(len(read.test), 'row')} of {settings.test_path or settings.test} are scored once, at the end"
        )
    if settings.validation_examples is not None and settings.validation_examples < len(first):
        words += f"; the first {settings.validation_examples:,} of validation are scored"
    return words


def summary_of_scored(source: str, notes: Sequence[str], left_out: Sequence[LeftOut]) -> str:
    """What was recognised in rows that are scored alone, and how many were left out; empty if there is nothing to say."""
    words = "; ".join(_how_read(notes, left_out))
    return f"{source}: {words}" if words else ""


def _how_read(notes: Sequence[str], left_out: Sequence[LeftOut]) -> list[str]:
    lacking = [f"{counted(one.rows, 'row')} left out ({one})" for one in left_out if one.rows]
    return [f"read with {', '.join(notes)}", *lacking] if notes else lacking


def _labels(kind: str, names: Sequence[str], read: WasRead) -> str:
    if names:
        counts = read.counts(len(names))
        shown = [
            f"{name if name == name.strip() else repr(name)} {count:,}"
            for name, count in zip(names, counts, strict=True)
        ]
        if len(names) <= FEW:
            return f", {len(names)} classes ({', '.join(shown)})"
        low, high = counts.min(), counts.max()
        rows = f"{counted(int(low), 'row')} each" if low == high else f"{low:,} to {high:,} rows"
        return f", {len(names):,} classes of {rows} ({', '.join(shown[:3])} …)"
    if kind == "regression":
        labels = read.labels()
        return f", targets from {labels.min():g} to {labels.max():g}"
    if read.train.choices is not None:
        offered = [len(choices) for choices in read.validation[0].choices or []]
        between = f"{min(offered)}" if min(offered) == max(offered) else f"{min(offered)} to {max(offered)}"
        return f", {between} choices each"
    if read.train.turns is not None:
        turns = sum(turn["role"] == "assistant" for chat in read.train.turns for turn in chat)
        return f", conversations with {turns:,} turns of the assistant in training"
    return ", prompts with answers"
