"""What every evaluator gives: scores while training, and the rows of predictions.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.progress import Scorer, Scores
from selfdistill_cli.tasks.split import Split


class Evaluator(Scorer, Protocol):
    """Scores a model on the task's validation splits, and shows its predictions."""

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """Every prediction: a table a split, for predictions.parquet."""
        ...

    def scored(self, model: nn.Module) -> tuple[Scores, list[pa.Table]]:
        """Scores and predictions of the same weights: what is written for one is not written again for the other."""
        ...


Predicted = TypeVar("Predicted")
"""What a model predicts for one validation split."""


class OnePass(Generic[Predicted]):
    """An `Evaluator` whose scores and tables are read off the same predictions, so that `scored` takes one pass."""

    def scores(self, model: nn.Module) -> Scores:
        """See `Evaluator`."""
        return self._scores(self._predicted(model))

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """See `Evaluator`."""
        return self._tables(self._predicted(model))

    def scored(self, model: nn.Module) -> tuple[Scores, list[pa.Table]]:
        """See `Evaluator`."""
        predicted = self._predicted(model)
        return self._scores(predicted), self._tables(predicted)

    def _predicted(self, model: nn.Module) -> list[Predicted]:
        """One for each validation split."""
        raise NotImplementedError

    def _scores(self, predicted: list[Predicted]) -> Scores:
        raise NotImplementedError

    def _tables(self, predicted: list[Predicted]) -> list[pa.Table]:
        raise NotImplementedError


def require_finite(predictions: Tensor) -> Tensor:
    """The same predictions. Raises `FloatingPointError` if one is infinite or no number: no metric is defined then."""
    if not torch.isfinite(predictions).all():
        raise FloatingPointError("predictions on the validation set are not finite")
    return predictions


def prediction_table(split: Split, **columns: Any) -> pa.Table:
    """One row an example: its split, its row number in the source, what was asked and what was predicted."""
    asked = "text" if split.answers is None else "prompt"  # a `text` is what a model has written
    texts = {asked: pa.array(list(split.texts), pa.string())}
    if split.pairs is not None:
        texts["text_pair"] = pa.array(list(split.pairs), pa.string())
    return pa.table({"split": [split.name] * len(split), "index": split.rows, **texts, **columns})


def label_table(split: Split, logits: list[Any], predictions: Any, names: Sequence[str] = ()) -> pa.Table:
    """Where labels are predicted. logits: a list or array an example; predictions [N]; `names` of classes by number."""
    named = {}
    if names:
        numbers = {"prediction_name": predictions, "label_name": split.labels}
        named = {column: pa.array([names[n] for n in values], pa.string()) for column, values in numbers.items()}
    return prediction_table(split, logits=logits, prediction=predictions, label=split.labels, **named)
