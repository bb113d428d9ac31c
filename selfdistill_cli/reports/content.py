"""What a report is made of, whatever it is written as: sections of words, tables and figures."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A table's cell; bold where it is significant."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first column names the row."""

    name: str
    """Of its files."""
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]

    @property
    def cells(self) -> list[list[Cell]]:
        """All rows, every cell a `Cell`."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Figure:
    """A figure that is drawn when it is wanted."""

    name: str
    """Of its files."""
    caption: str
    draw: Callable[[], Any]
    """Gives a matplotlib figure."""


@dataclass(frozen=True)
class Section:
    """One question and what the runs say to it."""

    title: str
    words: str
    """What is asked, and how the answer is computed."""
    parts: Sequence[str | Table | Figure] = field(default_factory=list)


def spread(values: Sequence[float], digits: int = 4) -> str:
    """`0.8123 ± 0.0045`: mean and standard deviation; a single value alone."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def slug(words: str) -> str:
    """A name for a file: letters, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:80]
