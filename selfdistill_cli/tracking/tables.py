"""Tables of plain text that fit the terminal: whole columns go before a word is broken, and none goes in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfdistill_cli.tracking.terminal import say

GAP = 2
"""Between two columns, in characters."""

LONG_NUMBER = re.compile(r"-?\d+\.\d{5,}(e-?\d+)?")


@dataclass(frozen=True)
class Column:
    """One column; what its cells hold is data, in which square brackets mean nothing."""

    name: str
    cells: Sequence[str]
    right: bool = False
    leaves: int = 0
    """Its place in the order in which columns are left out where there is no room; 0: it stays."""

    @property
    def header(self) -> str:
        """The name, a line a word."""
        return self.name.replace(" ", "\n")

    @property
    def width(self) -> int:
        """In characters of the terminal."""
        return max(map(cell_len, [*self.header.split("\n"), *self.cells]))


def print_table(console: Console, title: str, columns: Sequence[Column]) -> None:
    """Print a table under its title: a row a line, or where not even what has to stay fits, a paragraph a row."""
    say(console, title, "bold")
    width = console.width if console.is_terminal else None
    if width is not None and _width(fitting(columns, width)) > width:
        _print_paragraphs(console, fitting(columns, width), width)
    else:
        console.print(make_table(columns, width), crop=False)


def _print_paragraphs(console: Console, columns: Sequence[Column], width: int) -> None:
    """`job 1  accuracy 0.5000  method kd`, broken between these; what is longer than a line stays whole."""
    for row in zip(*(column.cells for column in columns), strict=True):
        line = ""
        for pair in (f"{column.name} {cell}" for column, cell in zip(columns, row, strict=True)):
            if line and cell_len(line) + GAP + cell_len(pair) > width:
                console.print(Text(line), soft_wrap=True)
                line = " " * GAP + pair
            else:
                line = line + " " * GAP + pair if line else pair
        console.print(Text(line), soft_wrap=True)


def make_table(columns: Sequence[Column], width: int | None) -> Table:
    """The table as it fits this width, or with all columns."""
    if width is not None:
        columns = fitting(columns, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), width=_width(columns))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(column.header), justify=justify, no_wrap=True, vertical="top", header_style="bold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that fit: first cells are shortened where they stay distinct, then columns that may be left out go.

    What has to stay may still be wider; the terminal then breaks its lines.
    """
    kept = list(columns)
    if _width(kept) > width:
        kept = [_shortened(column) for column in kept]
    for leaving in sorted((column for column in kept if column.leaves), key=lambda column: column.leaves):
        if _width(kept) <= width:
            break
        kept.remove(leaving)
    return kept


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _shortened(column: Column) -> Column:
    """`data/a.csv`, `data/b.csv` as `a.csv`, `b.csv`; 2.2898514604770375 as 2.29."""
    if len(set(column.cells)) < 2:
        return column
    if all("/" in cell for cell in column.cells):
        paths = [cell.split("/") for cell in column.cells]
        folders = zip(*(path[:-1] for path in paths), strict=False)
        shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, folders))
        if shared == 1 and paths[0][0] == "":  # the root alone
            return column
        return replace(column, cells=["/".join(path[shared:]) for path in paths])
    rounded = [f"{float(cell):.4g}" if LONG_NUMBER.fullmatch(cell) else cell for cell in column.cells]
    return replace(column, cells=rounded) if len(set(rounded)) == len(set(column.cells)) else column
