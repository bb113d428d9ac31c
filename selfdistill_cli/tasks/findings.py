"""What is strange about a task's examples, found before training: each thing in a sentence, with counts and rows.

'good' (50), 'good ' (3) and 'Good' (2) are classes that differ only in case, spaces or how a letter or number is written.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import listed, named_rows
from selfdistill_cli.tasks.labels import FEW_CLASSES, MANY_FRACTIONS, have_commas
from selfdistill_cli.tasks.numbers import is_missing_number, parsed_number
from selfdistill_cli.tasks.rows import rouge_metrics
from selfdistill_cli.tasks.split import Split

if TYPE_CHECKING:
    from selfdistill_cli.tasks.data import TaskData
    from selfdistill_cli.tasks.summary import WasRead

log = logging.getLogger(__name__)

SHOWN = 5
LOOKED_AT = 1000
"""Rows whose letters are counted."""
OTHER_LETTERS = 0.01
"""From this share of letters that ROUGE does not know it is said."""


class Cut(Protocol):
    """Encoded examples, which know how many of them were cut."""

    @property
    def truncated(self) -> int: ...

    @property
    def uncut(self) -> int: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Repeats:
    """Texts that stand in a split more than once, or in two splits."""

    in_both: int
    """Examples of the first validation split whose text is trained on."""
    first_in_both: list[int]
    """Their first rows in the source."""
    two_labels: int
    """Texts of the training split that have more than one label there (classification)."""
    first_two_labels: list[list[int]]
    """Of the first of them, two rows each with different labels."""

    @classmethod
    def of(cls, train: Split, validation: Split, classes: bool) -> Repeats:
        """Compare texts, with second texts or choices, by their 64-bit hashes: a million rows cost a second or two."""
        trained, scored = train.hashes(), validation.hashes()
        both = validation.rows[np.isin(scored, trained)]
        pairs: list[list[int]] = []
        count = 0
        if classes:
            order = np.lexsort((train.labels, trained))
            texts, labels = trained[order], train.labels[order]
            changes = np.flatnonzero((texts[1:] == texts[:-1]) & (labels[1:] != labels[:-1]))
            _, first = np.unique(texts[changes], return_index=True)
            count = len(first)
            rows = [(train.rows[order[place]], train.rows[order[place + 1]]) for place in changes[first]]
            pairs = sorted(sorted((int(a), int(b))) for a, b in rows)[:SHOWN]
        return cls(len(both), both[:SHOWN].tolist(), count, pairs)


def findings(
    settings: DictConfig, names: Sequence[str], read: WasRead, train: Split, repeats: Repeats
) -> Iterator[str]:
    """What is strange, a sentence each (`settings`: cfg.task; `names`: of classes, none where there are none).

    `train`: the examples of `read` that are trained on.
    """
    if names:
        drawn = np.bincount(train.labels, minlength=len(names))
        yield from _of_classes(settings, names, read.counts(len(names)), drawn)
    elif train.labels.dtype == np.float32 and np.ptp(read.labels()) == 0:
        yield f"All targets are {read.labels()[0]:g}: there is nothing to tell apart."
    yield from _of_chats(train)
    yield from _of_rouge(rouge_metrics(settings), read.validation[0])
    if repeats.in_both:
        yield (
            f"{repeats.in_both:,} {'example' if repeats.in_both == 1 else 'examples'} of validation with the text of a "
            f"training example ({named_rows(repeats.first_in_both, repeats.in_both)}): scored there, memory looks like skill."
        )
    if repeats.two_labels:
        pairs = ", ".join(f"{a} and {b}" for a, b in repeats.first_two_labels)
        dots = " …" if repeats.two_labels > len(repeats.first_two_labels) else ""
        texts = "text stands" if repeats.two_labels == 1 else "texts stand"
        yield f"{repeats.two_labels:,} {texts} in training with two labels (rows {pairs}{dots})."


def _of_chats(train: Split) -> Iterator[str]:
    """Turns at the end of conversations that nobody answers."""
    ends = [turns[-1]["role"] != "assistant" for turns in train.turns or []]
    rows = train.rows[np.flatnonzero(ends)]
    if len(rows):
        yield (
            f"{len(rows):,} of {len(train):,} conversations end with a turn that the assistant does not answer "
            f"({named_rows(rows.tolist())}): it is left off."
        )


def _of_rouge(asked: Sequence[str], scored: Split) -> Iterator[str]:
    """Letters in the acceptable answers that ROUGE does not know."""
    golds = "".join(one for some in (scored.references or ())[:LOOKED_AT] for one in some).lower() if asked else ""
    letters = Counter(filter(str.isalpha, golds))
    others = Counter({letter: count for letter, count in letters.items() if not letter.isascii()})
    if others.total() > OTHER_LETTERS * letters.total():
        shown = ", ".join(letter for letter, _ in others.most_common(SHOWN))
        yield (
            f"{asked[0]} knows the letters a to z alone: {others.total() / letters.total():.0%} of those in the acceptable answers "
            f"are others ({shown}), which part words and are not compared."
        )


def _of_classes(settings: DictConfig, names: Sequence[str], counts: np.ndarray, drawn: np.ndarray) -> Iterator[str]:
    shown = [f"{_shown(name)} ({count:,})" for name, count in zip(names, counts, strict=True)]
    if not settings.labels and len(names) > FEW_CLASSES and counts.sum() < 2 * len(names):
        yield (
            f"{len(names):,} classes have {counts.sum():,} examples, {counts.sum() / len(names):.1f} each: "
            f"is '{settings.label}' the label?"
        )
    alike: dict[Any, list[str]] = {}
    for name, words in zip(names, shown, strict=True):
        alike.setdefault(_plain(name), []).append(words)
    for group in (group for group in alike.values() if len(group) > 1):
        yield f"{_listed(group)} are classes that differ only in case, spaces or how a letter or number is written."
    if not settings.labels and have_commas(names):
        yield (
            f"{len(names):,} classes have names such as {listed(list(map(repr, names[1:3])))}, which look like numbers with a decimal comma. Numbers "
            f"are written with a point: of more than {MANY_FRACTIONS} different ones a regression is learned."
        )
    if not settings.labels:
        for name, words in zip(names, shown, strict=True):
            if is_missing_number(name):
                yield f"{words} is the name of a class. Leave the cell empty where a label is missing."
    never = [repr(name) for name, count in zip(names, counts, strict=True) if count == 0]
    if never:
        yield f"task.labels: {_listed(never)} never {'occurs' if len(never) == 1 else 'occur'} in what is trained on."
    single = [repr(name) for name, count in zip(names, counts, strict=True) if count == 1]
    if single:
        one = len(single) == 1
        yield (
            f"{_listed(single)} {'is a class' if one else 'are classes'} with one example{'' if one else ' each'}: "
            f"{'it stays' if one else 'they stay'} in training, and no score tells whether {'it was' if one else 'they were'} learned."
        )
    left = [repr(name) for name, count, some in zip(names, counts, drawn, strict=True) if count and not some]
    if left and settings.train_examples is not None:
        yield (
            f"task.train_examples={settings.train_examples} is fewer than the {np.count_nonzero(counts)} classes: "
            f"{_listed(left)} {'has' if len(left) == 1 else 'have'} no training example."
        )


def report(data: TaskData, speaks: bool) -> None:
    """Say what was read, and what is strange about it; that is an error with `task.strict` (raises `UserError`).

    `speaks`: whether this is the process that does. The jobs of a sweep say the same only once on the screen.
    """
    if speaks:
        _say(data.summary, logging.INFO)
    _report(data.settings, data.findings, speaks)


def report_scored(data: TaskData) -> None:
    """Say what was recognised in rows that are scored alone, and how many were left out."""
    if data.summary:
        _say(data.summary, logging.WARNING)


def report_cut(settings: DictConfig, train: Cut, speaks: bool) -> None:
    """The same of a `task.max_length` that cuts most training examples."""
    if train.truncated * 2 > len(train):
        _report(settings, [_cut(settings, train, "training examples")], speaks)


def say_cut(what: str, settings: DictConfig, examples: Cut) -> None:
    """How many of these examples, which are not trained on, `task.max_length` cuts."""
    if examples.truncated:
        log.warning("%s: %s", what, _cut(settings, examples, "rows"))


def _cut(settings: DictConfig, examples: Cut, rows: str) -> str:
    return (
        f"task.max_length={settings.max_length} cuts {examples.truncated:,} of {len(examples):,} {rows}; "
        f"the longest has {examples.uncut:,} tokens."
    )


def _report(settings: DictConfig, found: Sequence[str], speaks: bool) -> None:
    if not found:
        return
    each = "\n".join(f"  - {one}" for one in found)
    if settings.strict:
        raise UserError(f"The data of task={settings.name} is not what task.strict=true allows:\n{each}")
    if speaks:
        _say(f"Worth a look before you trust the scores (task.strict=true makes it an error):\n{each}", logging.WARNING)


_said: set[str] = set()


def _say(words: str, level: int) -> None:
    """Write a line to the log, and to the screen unless this process has said it before."""
    log.log(logging.DEBUG if words in _said else level, words)
    _said.add(words)


def _shown(name: str) -> str:
    """In quotes; letters that are put together of several characters as these, since they look like one."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def _plain(name: str) -> Any:
    """Equal of names that a reader takes for the same."""
    name = unicodedata.normalize("NFKC", name)
    number = parsed_number(name)
    return " ".join(name.split()).casefold() if number is None else number


def _listed(words: Sequence[str]) -> str:
    """`a, b and c`; the first five of more."""
    if len(words) > SHOWN:
        return f"{', '.join(words[:SHOWN])} and {len(words) - SHOWN:,} more"
    return listed(words)
