"""The rows of predictions.parquet."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from selfdistill_cli.tasks.split import Split


def prediction_table(split: Split, **columns: Any) -> pa.Table:
    """One row an example: its split, its row number in the source, and what was predicted."""
    return pa.table({"split": [split.name] * len(split), "index": split.rows, **columns})


def label_table(split: Split, logits: list[Any], predictions: Any) -> pa.Table:
    """Where labels are predicted. logits: a list or array an example; predictions [N]."""
    return prediction_table(split, logits=logits, prediction=predictions, label=split.labels)
