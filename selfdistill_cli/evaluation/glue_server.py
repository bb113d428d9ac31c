"""Predictions of GLUE's test sets as gluebenchmark.com takes them: one file a set, `index` and `prediction` in columns.

RTE.tsv
index	prediction
0	not_entailment
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError

FILES = {
    ("cola", "test"): "CoLA.tsv",
    ("sst2", "test"): "SST-2.tsv",
    ("mrpc", "test"): "MRPC.tsv",
    ("qqp", "test"): "QQP.tsv",
    ("stsb", "test"): "STS-B.tsv",
    ("mnli", "test_matched"): "MNLI-m.tsv",
    ("mnli", "test_mismatched"): "MNLI-mm.tsv",
    ("qnli", "test"): "QNLI.tsv",
    ("rte", "test"): "RTE.tsv",
    ("wnli", "test"): "WNLI.tsv",
}
"""By task and test split, the name that the server expects."""
BY_NAME = ("mnli", "qnli", "rte")
"""Tasks whose labels the server wants by name; the others' are class numbers, STS-B's scores from 0 to 5."""
LARGEST_SCORE = 5.0


def require_glue_task(task: str) -> None:
    """Raise `UserError` unless the benchmark has such a task."""
    tasks = list(dict.fromkeys(name for name, _ in FILES))
    if task not in tasks:
        raise UserError(f"--format glue: the benchmark has no task '{task}'. It has {', '.join(tasks)}.")


def file_name(task: str, split: str) -> str:
    """What the server calls the predictions of this test split; of a file of another name, those of the task's first."""
    named = FILES.get((task, split))
    return named or next(name for (of_task, _), name in FILES.items() if of_task == task)


def write_for_server(path: Path, task: str, labels: Sequence[str], predictions: Sequence[Any]) -> None:
    """Write the table, indices from 0 in the order of the rows. `labels`: class names by number (none of STS-B)."""
    if not labels:
        shown = [f"{min(max(value, 0.0), LARGEST_SCORE):.3f}" for value in predictions]
    elif task in BY_NAME:
        shown = list(predictions)
    else:
        numbers = {name: str(number) for number, name in enumerate(labels)}
        shown = [numbers[name] for name in predictions]
    lines = ["index\tprediction", *(f"{index}\t{value}" for index, value in enumerate(shown))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
