"""What every evaluator gives: scores while training, and the rows of predictions.parquet."""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.progress import Scorer
from selfdistill_cli.tasks.split import Split


class Evaluator(Scorer, Protocol):
    """Scores a model on the task's validation splits, and shows its predictions."""

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """Every prediction: a table a split, for predictions.parquet."""
        ...


def require_finite(predictions: Tensor) -> Tensor:
    """The same predictions. Raises `FloatingPointError` if one is infinite or no number: no metric is defined then."""
    if not torch.isfinite(predictions).all():
        raise FloatingPointError("predictions on the validation set are not finite")
    return predictions


def prediction_table(split: Split, **columns: Any) -> pa.Table:
    """One row an example: its split, its row number in the source, and what was predicted."""
    return pa.table({"split": [split.name] * len(split), "index": split.rows, **columns})


def label_table(split: Split, logits: list[Any], predictions: Any) -> pa.Table:
    """Where labels are predicted. logits: a list or array an example; predictions [N]."""
    return prediction_table(split, logits=logits, prediction=predictions, label=split.labels)
