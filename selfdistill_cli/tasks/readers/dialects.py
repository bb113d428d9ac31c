"""How the lines of a CSV, TSV or TXT file are cut: what the task says, else what its first line shows."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.readers.base import Reading

USUAL = {"csv": ",", "tsv": "\t", "txt": "\t"}
"""Delimiters by format."""
DELIMITERS = (",", "\t", ";", "|")
"""The ones that are recognised."""
QUOTE = '"'
SHOWN = 60
"""Characters of a line in a message."""
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

    def records(self, lines: Sequence[str]) -> list[list[str]]:
        """The fields of each record in these lines, but of a last one that goes on behind them; none if it cannot cut them."""
        if self.delimiter is None or not self.quoted:
            return [self.cut(line) for line in lines]
        found, taken = list[list[str]](), list[str]()

        def feed() -> Iterator[str]:
            for line in lines:
                taken.append(f"{line}\n")
                yield taken[-1]

        try:
            for fields in csv.reader(feed(), delimiter=self.delimiter, strict=True):
                if not well_quoted("".join(taken), fields):
                    return []
                found.append(fields)
                taken.clear()
        except csv.Error as error:
            return found if "end of data" in str(error) else []
        return found


def well_quoted(text: str, fields: Sequence[str]) -> bool:
    """Whether each field with a quote in it stands in quotes: `csv` takes others too, even in its strict mode."""
    place = 0
    for field in fields:
        if text.startswith(QUOTE, place):
            place += len(field) + field.count(QUOTE) + 3  # two quotes around it, and the delimiter
        elif QUOTE in field:
            return False
        else:
            place += len(field) + 1
    return True


def dialect_of(ending: str, lines: Sequence[str], how: Reading) -> Dialect:
    """The dialect of a file of this ending, by the first lines of it that are not blank.

    What the task does not say is the first of the usual dialects by which most of the wanted columns are found.
    Raises `UserError` if the settings do not go together, or without a header several delimiters fit.
    """
    first = next(iter(lines), "")
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
        return _without_names(offered, usual, lines)
    found = [sum(map(how.wants, one.cut(first))) for one in offered]
    if ending == "txt" and max(found) == 0 and how.delimiter is None and usual not in first:
        return Dialect(None, False)
    return offered[found.index(max(found))]


def _without_names(offered: Sequence[Dialect], usual: str, lines: Sequence[str]) -> Dialect:
    """The only one of these dialects that cuts the first lines into records of several fields, the same number of each."""
    first, records = next(iter(lines), ""), {one: one.records(lines) for one in offered}
    cutting = [one for one, found in records.items() if found and len(found[0]) > 1]
    if usual == "\t" and usual in first:  # texts have commas and semicolons, and no tabs
        cutting = [one for one in cutting if one.delimiter == usual]
    if len(cutting) > 1:
        fitting = [one for one in cutting if len(set(map(len, records[one]))) == 1]
        if len(fitting) != 1:
            shown = " or ".join(map(str, cutting))
            raise UserError(
                f"task.header=false: {first[:SHOWN]!r} can be cut at {shown}, and no name says which is meant. "
                f"Give task.delimiter, such as task.delimiter={cutting[0]}."
            )
        cutting = fitting
    return cutting[0] if cutting else offered[0]


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
