"""What a report is made of, whatever it is written as: sections of words, tables and figures."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from selfdistill_cli.reports.panels import Panel

NUMBER = re.compile(r"[+−–<-]? ?(\d|$)")
"""How a number begins; a dash alone stands for one that is missing."""


@dataclass(frozen=True)
class Cell:
    """A table's cell, with what a test says of it."""

    text: str
    verdict: Literal["", "better", "worse"] = ""
    """Significantly better or worse than the baseline. Better is bold, worse has a ▼."""


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column names the row."""

    name: str
    """Its files are `tables/<name>.csv` and `.tex`."""
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]

    @property
    def cells(self) -> list[list[Cell]]:
        """All rows, every cell a `Cell`."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]

    @property
    def of_numbers(self) -> list[bool]:
        """For each column whether it holds numbers, which stand at the right."""
        return [all(NUMBER.match(cell.text) for cell in column) for column in zip(*self.cells, strict=True)]


@dataclass(frozen=True)
class Figure:
    """Panels of data, and the sentence that says what they show."""

    name: str
    """Its files are `figures/<name>.svg` and `.csv`."""
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Section:
    """One question and what the runs say to it."""

    title: str
    words: str
    """What is asked, and how the answer is computed."""
    parts: Sequence[str | Table | Figure] = field(default_factory=list)
    finding: str = ""
    """What the figures show, in a sentence with its numbers."""


@dataclass(frozen=True)
class Chapter:
    """What belongs together under one heading: the verdict, one study, the runs that are left."""

    title: str
    words: str
    sections: Sequence[Section] = field(default_factory=list)


def spread(values: Sequence[float], digits: int = 4) -> str:
    """`0.8123 ± 0.0045`: mean and standard deviation; a single value alone."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def slug(words: str) -> str:
    """Lower-case letters, digits, underscores and dashes; different words may have the same slug."""
    return re.sub(r"[^a-z0-9_]+", "-", words.lower()).strip("-")


def slugs(words: Sequence[str]) -> list[str]:
    """A slug of each, no two alike: where one is long, or another's, it is cut, and a hash of the words follows."""
    plain = [slug(one.replace(",", "")) for one in words]
    return [
        whole if len(whole) <= 80 and plain.count(whole) == 1 else f"{whole[:70].strip('-')}-{_hash(one)}"
        for one, whole in zip(words, plain, strict=True)
    ]


def _hash(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def file_name(kind: str, subject: str) -> str:
    """A name for the files of a figure or table of this kind on a task, variant or sweep; other subjects have others.

    Where the slug alone would lose something of the subject, a hash of the whole subject follows.
    """
    if re.fullmatch(r"[a-z0-9_]+( [a-z0-9_]+)*", subject) and len(subject) <= 60:
        return f"{kind}-{slug(subject)}"
    return f"{kind}-{slug(subject)[:60].strip('-')}-{_hash(subject)}"
