"""What of prompts and answers in tokens has room in `task.max_length`, and rows of different lengths in one array."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.encoding.labelled import flat_tokens, offsets_of
from selfdistill_cli.errors import UserError

log = logging.getLogger(__name__)

MOST_CUT = 0.05
"""The share of answers that may be cut off before it is an error."""


@dataclass(frozen=True)
class Flat:
    """Rows of token numbers of different lengths in one array: row i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: np.ndarray
    offsets: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row [N]."""
        return np.diff(self.offsets)

    def row(self, number: int) -> np.ndarray:
        """The tokens of one row."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]

    @classmethod
    def of(cls, rows: list[list[int]]) -> Flat:
        """These rows."""
        offsets = offsets_of(rows)
        return cls(flat_tokens(rows, np.int32, int(offsets[-1])), offsets)


@dataclass(frozen=True)
class Room:
    """How long rows may be, and what is done with longer ones."""

    settings: DictConfig
    """cfg.task: `max_length`, `long_prompts`."""
    decoder: bool
    """Prompt and answer share the room; else each has it."""
    what: str
    """Names the split in messages."""
    rows: Sequence[int] | None = None
    """What messages call its examples by; None: their places."""

    @property
    def of_prompts(self) -> int:
        """Tokens that a prompt may have."""
        return int(self.settings.max_length) - self.decoder

    def row(self, place: int) -> str:
        """An example in messages: by its row in the source, which examples of `task.added` have none in."""
        number = place if self.rows is None else int(self.rows[place])
        return f"row {number}" if number >= 0 else "task.added"


def fit(prompts: list[list[int]], answers: list[list[int]], end: int, room: Room) -> tuple[int, int]:
    """Cut prompts and answers [N] in place, and put `end` behind each answer that is whole.

    Returns how many were cut, and the tokens of the longest example before. A prompt that leaves no room at all is an
    error; with `long_prompts=cut` a decoder's prompt loses as much of its beginning as its answer needs, and prompts
    that stand one behind the other and are equal, as those of several choices, lose the same. A long answer loses its
    end. Raises `UserError` if that happens to more than 5 % of the examples.
    """
    most, count = room.settings.max_length, len(answers)
    lengths = [(len(prompt), len(answer) + 1) for prompt, answer in zip(prompts, answers, strict=True)]
    uncut = max(sum(pair) if room.decoder else max(pair) for pair in lengths)
    cut_prompts, cut = 0, 0
    if room.decoder and room.settings.long_prompts == "cut":
        for rows in [list(rows) for _, rows in groupby(range(count), key=prompts.__getitem__)]:
            left = max(1, most - max(lengths[row][1] for row in rows))
            cut_prompts += len(rows) * (lengths[rows[0]][0] > left)
            for row in rows:
                prompts[row] = prompts[row][-left:]
    cut_prompts += fit_prompts(prompts, room)
    for row, answer in enumerate(answers):
        left = most - len(prompts[row]) if room.decoder else most
        whole = [*answer, end]
        answers[row] = whole[:left]
        cut += len(whole) > left
    if cut > MOST_CUT * count:
        raise UserError(
            f"{room.what}: {cut:,} of {count:,} answers do not fit into task.max_length={most} tokens "
            f"and would lose their end (at most {MOST_CUT:.0%} may). Give a larger task.max_length"
            f"{', or a shorter prompt' * (room.settings.long_prompts != 'cut')}."
        )
    if cut:
        words = "%s: %d of %d answers are cut off at task.max_length=%d tokens and lack their end"
        log.warning(words, room.what, cut, count, most)
    return cut_prompts + cut, uncut


def fit_prompts(prompts: list[list[int]], room: Room) -> int:
    """Cut prompts in place, such that an answer has room, if that is allowed. Returns how many were cut."""
    longest, settings, what = room.of_prompts, room.settings, room.what
    too_long = [row for row, prompt in enumerate(prompts) if len(prompt) > longest]
    if too_long and settings.long_prompts == "error":
        row = too_long[0]
        raise UserError(
            f"{what}: {len(too_long):,} of {len(prompts):,} prompts leave no room for an answer in "
            f"task.max_length={settings.max_length} tokens (the first in {room.row(row)}: {len(prompts[row])} tokens; the longest: "
            f"{max(map(len, prompts))}). Give a larger task.max_length, or task.long_prompts=cut to drop their beginning."
        )
    for row in too_long:
        prompts[row] = prompts[row][-longest:]
    return len(too_long)
