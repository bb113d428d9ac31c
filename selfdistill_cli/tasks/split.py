"""The examples of one split: texts, labels, groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Split:
    """Examples of one split. All sequences have the same length."""

    name: str
    role: str
    """`train`; `selection`: held out to select on; `validation`: the one that is reported; `evaluation`: beside it;
    `test`: scored once, at the end."""
    texts: Sequence[str]
    """In generation and multiple choice, the prompts."""
    pairs: Sequence[str] | None
    labels: np.ndarray
    """Class numbers (int64), numbers of the right choice, floats (float32) in regression; zeros in generation."""
    rows: np.ndarray
    """Row numbers in the source."""
    groups: Sequence[str] | None = None
    """Which examples are scored together, for metrics over groups."""
    answers: Sequence[str] | None = None
    """What is learned after the prompt (generation, multiple choice)."""
    references: Sequence[list[str]] | None = None
    """Acceptable answers (generation)."""
    turns: Sequence[list[dict[str, str]]] | None = None
    """Whole conversations, of which `texts` shows what is asked last and `answers` the answer to it (`task.messages`)."""
    choices: Sequence[list[str]] | None = None
    """All answers to choose from (multiple choice)."""
    clean_labels: np.ndarray | None = None
    """What `labels` were before `task.label_noise` replaced some."""
    weights: np.ndarray | None = None
    """How much each example counts, as the data says (`task.weight`; of a training split only)."""
    folder: Path | None = None
    """Where what is made of a large split is kept: its tokens, a tokenizer. None: it is made each time."""

    def __len__(self) -> int:
        return len(self.texts)

    def named(self, scores: dict[str, float]) -> dict[str, float]:
        """Its scores by their names in the records: those of splits beside the reported one carry the split's."""
        return scores if self.role != "evaluation" else {f"{self.name}/{name}": value for name, value in scores.items()}

    def hashes(self) -> np.ndarray:
        """int64 [N], equal where everything that the model is shown is equal (within one process)."""
        beside = self.pairs if self.pairs is not None else self.choices
        more: Any = repeat(None) if beside is None else (one if isinstance(one, str) else tuple(one) for one in beside)
        shown = zip(self.texts, more, strict=beside is not None)
        return np.fromiter(map(hash, shown), dtype=np.int64, count=len(self))

    def take(self, rows: np.ndarray) -> Split:
        """These examples only, in this order."""
        return replace(
            self,
            texts=[self.texts[i] for i in rows],
            pairs=_taken(self.pairs, rows),
            labels=self.labels[rows],
            rows=self.rows[rows],
            groups=_taken(self.groups, rows),
            answers=_taken(self.answers, rows),
            references=_taken(self.references, rows),
            turns=_taken(self.turns, rows),
            choices=_taken(self.choices, rows),
            weights=None if self.weights is None else self.weights[rows],
            folder=None,
        )


def _taken(column: Sequence[Any] | None, rows: np.ndarray) -> list[Any] | None:
    return None if column is None else [column[i] for i in rows]
