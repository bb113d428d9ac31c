"""Encoded examples of which some have other answers, and a few of them as a set of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from selfdistill_cli.encoding.answers import AnswerExamples
from selfdistill_cli.encoding.room import Flat


@dataclass(frozen=True)
class Replaced(Flat):
    """Rows of token numbers of which some stand in place of those in the array, which is not copied."""

    others: Mapping[int, np.ndarray]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row [N]."""
        lengths = np.diff(self.offsets)
        for row, tokens in self.others.items():
            lengths[row] = len(tokens)
        return lengths

    def row(self, number: int) -> np.ndarray:
        """The tokens of one row."""
        other = self.others.get(int(number))
        return super().row(number) if other is None else other


def with_answers(examples: AnswerExamples, answers: Mapping[int, np.ndarray]) -> AnswerExamples:
    """These examples, some of them (by their row numbers) with other answers, of one token at least."""
    gold = examples.answers
    return replace(examples, answers=Replaced(gold.tokens, gold.offsets, answers))


def some_of(examples: AnswerExamples, rows: Sequence[int]) -> AnswerExamples:
    """A few of them, in this order."""
    weights = None if examples.weights is None else examples.weights[list(rows)]
    prompts, answers = (_joined([flat.row(row) for row in rows]) for flat in (examples.prompts, examples.answers))
    return replace(examples, prompts=prompts, answers=answers, weights=weights)


def _joined(rows: list[np.ndarray]) -> Flat:
    return Flat(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
