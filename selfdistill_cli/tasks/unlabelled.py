"""Examples of rows whose labels or answers are not known: what a finished model is asked about.

The rows keep their order and none is left out, so that predictions can be put beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import named_rows
from selfdistill_cli.tasks.missing import with_blanks
from selfdistill_cli.tasks.rows import as_answers, choices_of
from selfdistill_cli.tasks.sources import RawSplit, find_source
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.templates import render

NOT_ASKED = ("label", "answer", "references", "group", "weight")
"""Settings that name what new rows need not have."""


def unlabelled_rows(task: DictConfig, data_dir: str, file: Path | None, cache: Path) -> list[RawSplit]:
    """The rows of `file`, or without one the test splits of the task in the data folder or on the Hub.

    `task`: the run's settings, the labels' taken out. Raises `UserError` if there is no such file or split.
    """
    asked = without_labels(task)
    if file is not None:
        asked.update(path=None, validation_path=str(file.expanduser()), generator=None)
    elif asked.generator is not None or asked.path is not None:
        raise UserError(f"task={task.name} has no test split: name the file that holds the new rows.")
    else:
        unknown = [split for split in asked.validation if "validation" not in split]
        if unknown:
            raise UserError(
                f"task.validation=[{','.join(unknown)}]: which split is the test set beside it is not known. Name the file "
                "that holds the new rows."
            )
        asked.update(
            validation_path=None, validation=[split.replace("validation", "test") for split in asked.validation]
        )
    return find_source(asked, data_dir, cache, with_train=False).read()


def without_labels(task: DictConfig) -> DictConfig:
    """A copy of a task's settings in which nothing names a label or an answer."""
    asked = task.copy()
    for name in set(NOT_ASKED) & set(asked):
        asked[name] = None
    return asked


def texts_alone(task: DictConfig, raw: RawSplit) -> Split:
    """Texts, perhaps pairs, or prompts. Raises `UserError` where a row has none, unless `task.missing` keeps those."""
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no rows.")
    if task.get("missing") == "keep":
        raw = with_blanks(task, raw)
    return Split(
        raw.name,
        "evaluation",
        _written(task, task.text, raw),
        _written(task, task.text_pair, raw) if task.text_pair else None,
        labels=np.zeros(len(raw), dtype=np.int64),
        rows=raw.first_row + np.arange(len(raw)),
    )


def with_choices(task: DictConfig, raw: RawSplit) -> Split:
    """Prompts, and what there is to choose from."""
    offered = as_answers(choices_of(task, raw))
    empty = [row for row, choices in enumerate(offered) if not all(map(str.strip, choices))]
    _require_none(empty, task.choices, raw)
    return replace(texts_alone(task, raw), choices=offered)


def _written(task: DictConfig, setting: str, raw: RawSplit) -> list[str]:
    texts = render(setting, raw)
    if task.get("missing") != "keep":
        empty = [row for row, text in enumerate(texts) if not text.strip()]
        _require_none(empty, setting, raw, " task.missing=keep takes blank texts as they are.")
    return texts


def _require_none(empty: Sequence[int], setting: str, raw: RawSplit, way: str = "") -> None:
    if empty:
        raise UserError(
            f"{raw.origin}: '{setting}' is empty in {len(empty):,} of {len(raw):,} rows ({named_rows(raw.numbers[empty].tolist())}, "
            f"counted from 0): there is nothing to predict from. Fill these rows, or leave them out.{way}"
        )
