"""How the lines of a CSV, TSV or TXT file are cut: what the task says, else what its first line shows."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.readers.base import Reading

USUAL = {"csv": ",", "tsv": "\t", "txt": "\t"}
"""Delimiters by format."""
DELIMITERS = (",", "\t", ";", "|")
"""The ones that are recognised."""
WORDS = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
"""What may be typed for a delimiter."""


@dataclass(frozen=True)
class Dialect:
    """How a line is cut into fields."""

    delimiter: str | None
    """None: a line is one text."""
    quoted: bool
    """Fields may stand in double quotes, with quotes inside written twice; else a quote is a character."""

    def __str__(self) -> str:
        return {"\t": "tab", None: "one text a line"}.get(self.delimiter, f"'{self.delimiter}'")

    def cut(self, line: str) -> list[str]:
        """The fields of a line; the line itself where it cannot be cut."""
        if self.delimiter is None:
            return [line]
        if not self.quoted:
            return line.split(self.delimiter)
        try:
            return next(csv.reader([line], delimiter=self.delimiter, strict=True), [])
        except csv.Error:
            return [line]


def dialect_of(ending: str, first: str, how: Reading) -> Dialect:
    """The dialect of a file of this ending whose first line is `first`.

    What the task does not say is the first of the usual dialects by which most of the wanted columns are found.
    Raises `UserError` if the settings do not go together.
    """
    usual = USUAL[ending]
    delimiters = [usual, *(one for one in DELIMITERS if one != usual)]
    if how.delimiter is not None:
        delimiters = [_delimiter(how)]
    offered = []
    for delimiter in delimiters:
        quoted = len(delimiter) == 1 and not (delimiter == "\t" and ending != "csv")
        if how.quoting is not None:
            quoted = how.quoting == "double"
        offered.append(Dialect(delimiter, quoted))
        if how.quoting is None and how.header and delimiter == "\t" and not quoted:
            offered.append(Dialect(delimiter, True))  # for a header that stands in quotes, as R writes it
    if not how.header:
        return max(offered, key=lambda one: (one.delimiter == usual and usual in first, len(one.cut(first))))
    found = [sum(map(how.wants, one.cut(first))) for one in offered]
    if ending == "txt" and max(found) == 0 and how.delimiter is None and usual not in first:
        return Dialect(None, False)
    return offered[found.index(max(found))]


def differs(dialect: Dialect, ending: str, how: Reading) -> list[str]:
    """What of a dialect was recognised, and is neither what the ending means nor what the task says."""
    notes = []
    if dialect.delimiter is None:
        notes.append(str(dialect))
    elif how.delimiter is None and dialect.delimiter != USUAL[ending]:
        notes.append(f"delimiter {dialect}")
    if how.quoting is None and dialect.delimiter == "\t" and dialect.quoted and ending != "csv":
        notes.append("quotes around cells, as around the header")
    return notes


def _delimiter(how: Reading) -> str:
    given = how.delimiter or ""
    delimiter = WORDS.get(given, given)
    if not delimiter or any(character in delimiter for character in '"\r\n'):
        raise UserError(f"task.delimiter={given!r}: must be a character such as ';' or '|', several, or the word tab.")
    if len(delimiter) > 1 and how.quoting == "double":
        raise UserError(f"task.delimiter={given} has {len(delimiter)} characters: with it quotes have no meaning.")
    return delimiter
