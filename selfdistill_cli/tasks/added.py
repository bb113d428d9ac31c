"""Training examples beside a task's own: prompts and answers in a file (task.added), as a round of self-training leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from selfdistill_cli.errors import UserError, first_line
from selfdistill_cli.system.files import new_file
from selfdistill_cli.tasks.split import Split

COLUMNS = ("prompt", "answer")
NO_ROW = -1
"""The row number of an example that is in no source."""


def write_added(path: Path, prompts: Sequence[str], answers: Sequence[str]) -> None:
    """Leave these examples as `with_added` reads them."""
    table = pa.table({"prompt": pa.array(prompts, pa.string()), "answer": pa.array(answers, pa.string())})
    with new_file(path) as beside:
        parquet.write_table(table, beside)


def with_added(train: Split, path: Path, no_answer: str | None = None) -> Split:
    """The training split of a generation task, and after its own examples those of the file.

    `no_answer` (task.no_answer) may be an answer even where it is empty. Raises `UserError` if the file is no Parquet
    file with texts in `prompt` and `answer`, or the task has weights.
    """
    try:
        table = parquet.read_table(path, columns=list(COLUMNS))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            f"task.added={path} is no Parquet file with columns prompt and answer: {first_line(error)}"
        ) from error
    prompts, answers = (table.column(name).to_pylist() for name in COLUMNS)
    empty = [
        row
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        if not _says_something(prompt) or (answer != no_answer and not _says_something(answer)) or answer is None
    ]
    if empty:
        raise UserError(f"task.added={path}: row {empty[0]} has an empty prompt or answer.")
    if train.weights is not None:
        raise UserError("task.added and task.weight do not go together: the added examples have no weight.")
    count, own_answers, references = len(prompts), train.answers or [], train.references or []
    return replace(
        train,
        texts=[*train.texts, *prompts],
        answers=[*own_answers, *answers],
        references=[*references, *([answer] for answer in answers)],
        labels=np.concatenate([train.labels, np.zeros(count, train.labels.dtype)]),
        rows=np.concatenate([train.rows, np.full(count, NO_ROW, train.rows.dtype)]),
        folder=None,  # what is kept there was made of the task's own examples alone
    )


def _says_something(text: str | None) -> bool:
    return isinstance(text, str) and bool(text.strip())
