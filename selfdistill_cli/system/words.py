"""Words as the terminal's width allows: broken between words, never inside one."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

COMMAND = re.compile(r" +(\$|sdrun|sd[a-z]+|pip|wandb|scancel|torchrun|python) ")
"""How a line begins that is to be copied."""
ROWS_NAMED = 5


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 step`, `2,000 steps`, `0.5 epochs`. `plural`: of a noun that does not take an s."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {noun if number == 1 else plural or f'{noun}s'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; empty of nothing. `last`: what stands before the last one."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def named_rows(numbers: Sequence[int], count: int | None = None) -> str:
    """`row 3`, `rows 3, 7 …`: the first five. `count`: how many there are, where `numbers` are not all."""
    count = len(numbers) if count is None else count
    shown = ", ".join(map(str, numbers[:ROWS_NAMED]))
    return f"row{'s' * (count != 1)} {shown}{' …' * (count > len(numbers[:ROWS_NAMED]))}"


def lines_of(words: str, width: int) -> list[str]:
    """One line's words in lines of at most `width` characters; a longer word (a path) stays whole.

    What an indented line goes on in is indented as well, that of an item (`- …`) as the item's words are.
    """
    indent = re.match(r" *(- )?", words)
    further = " " * len(indent.group()) if indent else ""
    return textwrap.wrap(
        words, max(width, 1), subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    ) or [""]


def wrapped(words: str, width: int) -> str:
    """Broken between words. A line that is an indented command stays as it is."""
    lines = [[line] if COMMAND.match(line) else lines_of(line, width) for line in words.split("\n")]
    return "\n".join(line for each in lines for line in each)


def for_screen(words: str) -> str:
    """What standard error is given: broken between words if it is a terminal, whole if it is a file."""
    return wrapped(words, shutil.get_terminal_size().columns) if sys.stderr.isatty() else words


class ScreenHandler(logging.Handler):
    """The log on standard error, INFO and above: broken between words on a terminal, whole in a file.

    It looks for standard error each time: while a progress line is shown, that is the one that keeps it whole.
    Paths are shown as seen from the working directory.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's words."""
        print(for_screen(self.format(record).replace(f"{Path.cwd()}{os.sep}", "")), file=sys.stderr)
