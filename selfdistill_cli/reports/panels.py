"""What a figure shows, as plain data: panels of curves, dots, cells or intervals. Nothing here draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Values = Sequence[float] | np.ndarray
Record = dict[str, Any]


class Look(NamedTuple):
    """How a line or mark looks: each method has a colour and marker of its own, its settings differ in dash and fill."""

    method: int
    """Its place among the methods of the report; 0 is the baseline."""
    setting: int = 0
    """Its place among the settings of this method."""


@dataclass(frozen=True)
class Line:
    """k points of one line, with a band or bars from `low` to `high` where they are known."""

    label: str
    look: Look
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None
    joined: bool = False
    """A line with its band, though the panel's others are dots."""


@dataclass(frozen=True)
class Curves:
    """Lines over a number."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    share: bool = False
    """The values are shares: the axis ends where they can, at 0 and 1."""
    dots: bool = False
    """Points that no line joins."""
    bars: bool = False
    """Bars in place of bands."""
    level: float | None = None
    """Where a horizontal line is drawn: what a guess would give."""
    diagonal: bool = False
    """Whether a line shows where y is x."""
    ticks: Sequence[float] = ()
    """Places that the x axis names, where it names no others."""

    @property
    def moves(self) -> bool:
        """Whether there is something to see: a line of a single point is none."""
        return any(len(line.x) > 1 for line in self.lines)

    def records(self) -> Iterator[Record]:
        """One a point."""
        for line in self.lines:
            for place in range(len(line.x)):
                record = {"line": line.label, self.x: line.x[place], (self.y or self.title): line.y[place]}
                if line.low is not None and line.high is not None:
                    record |= {"low": line.low[place], "high": line.high[place]}
                yield record


@dataclass(frozen=True)
class Cells:
    """Values [R, C] as colours; NaN where there is none."""

    title: str
    x: str
    y: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    words: Sequence[Sequence[str]] = ()
    """What stands in the cells; without words, columns are many and only some of them are named."""
    noise: float = 0.0
    """Spread of a value between seeds. The scale spans at least SCALE of it, so that what may be noise looks alike."""
    limits: tuple[float, float] | None = None
    """Of the scale, where several panels share it."""
    scale: str = ""
    """What the colours mean; a bar of colours says so."""

    SCALE = 8

    def range(self) -> tuple[float, float]:
        """Lowest and highest value of the colour scale."""
        if self.limits:
            return self.limits
        low, high = float(np.nanmin(self.values)), float(np.nanmax(self.values))
        missing = max(0.0, self.SCALE * self.noise - (high - low))
        return low - missing / 2, high + missing / 2

    def records(self) -> Iterator[Record]:
        """One a cell that has a value."""
        for i, j in np.ndindex(self.values.shape):
            if not np.isnan(self.values[i, j]):
                yield {self.y: self.rows[i], self.x: self.columns[j], "value": self.values[i, j]}


@dataclass(frozen=True)
class Mark:
    """A value with its interval, in the row of this name."""

    row: str
    look: Look
    value: float
    low: float = float("nan")
    high: float = float("nan")
    dots: Sequence[float] = ()
    """What it is the mean of: a dot each."""
    label: str = ""
    """In the legend, where rows hold marks of several kinds."""
    block: str = ""
    """The heading under which its row stands; rows of two blocks may have one name."""


@dataclass(frozen=True)
class Intervals:
    """Rows by name, in each one or more values with their intervals."""

    title: str
    x: str
    marks: Sequence[Mark]
    level: float | None = None
    """Where a vertical line is drawn: no difference."""

    @property
    def places(self) -> list[tuple[str, str]]:
        """Block and row of each line from the top; a heading has its block alone."""
        rows = dict.fromkeys((mark.block, mark.row) for mark in self.marks)
        return list(dict.fromkeys(line for row in rows for line in ((row[0], ""), row) if line != ("", "")))

    @property
    def rows(self) -> list[str]:
        """What stands beside each line."""
        return [row for _, row in self.places]

    def records(self) -> Iterator[Record]:
        """One a mark, and one a dot."""
        for mark in self.marks:
            record = {"block": mark.block, "row": mark.row, "mark": mark.label}
            yield record | {self.x or "value": mark.value, "low": mark.low, "high": mark.high}
            yield from (record | {self.x or "value": dot, "mark": "one seed"} for dot in mark.dots)


Panel = Curves | Cells | Intervals


@dataclass(frozen=True)
class Legend:
    """What lines and marks of several panels mean, once."""

    entries: dict[str, Look] = field(default_factory=dict)


def legend(panels: Iterable[Panel]) -> Legend:
    """Every label of these panels with its look; none where there is a single one that nothing else stands beside."""
    entries: dict[str, Look] = {}
    for panel in panels:
        labelled: Sequence[Line | Mark] = (
            panel.lines if isinstance(panel, Curves) else panel.marks if isinstance(panel, Intervals) else ()
        )
        entries |= {one.label: one.look for one in labelled if one.label and one.label not in entries}
    return Legend(entries if len(entries) > 1 else {})


def csv_of(panels: Sequence[Panel]) -> str:
    """The data that is drawn, a line a point, its panel first."""
    records = [{"panel": panel.title} | record for panel in panels for record in panel.records()]
    columns = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows({name: _short(value) for name, value in record.items()} for record in records)
    return text.getvalue()


def _short(value: Any) -> Any:
    """Numbers with six digits, no value as an empty cell."""
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:.6g}"
    return value
