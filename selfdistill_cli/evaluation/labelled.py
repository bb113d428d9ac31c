"""Scores of a classifier or regressor on the validation splits."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.encoding.labelled import Examples
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.prediction import predict
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.evaluation.predictions import label_table
from selfdistill_cli.evaluation.signal_quality import signal_quality
from selfdistill_cli.losses.labelled import Terms
from selfdistill_cli.tasks import TaskData


class Evaluator(Protocol):
    """Scores a model on the task's validation splits."""

    def scores(self, model: nn.Module) -> Scores:
        """The task's metrics, and what the signals of the predictions are worth."""
        ...

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """Every prediction: a table a split, for predictions.parquet."""
        ...


class LabelEvaluator:
    """Classification and regression."""

    def __init__(
        self, task: TaskData, validation: list[Examples], terms: Terms, batching: Batching, accelerator: Accelerator
    ) -> None:
        self.task = task
        self.validation = validation
        self.terms = terms
        self.batching = batching
        self.accelerator = accelerator

    def scores(self, model: nn.Module) -> Scores:
        """The task's metrics; of a classifier, what the signals of its predictions are worth."""
        from selfdistill_cli.evaluation.metrics import score  # seconds to import, so not before the first evaluation

        found: dict[str, float] = {}
        predicted = self._logits(model)
        for split, logits in zip(self.task.validation, predicted, strict=True):
            scores = score(self.task, split, decide(logits))
            scores["loss"] = float(self.terms.hard(logits, torch.from_numpy(split.labels)).mean())
            found |= self.task.named(split, scores)
        return Scores(found, self._signal_quality(predicted[0]))

    def _signal_quality(self, logits: Tensor) -> dict[str, float]:
        labels = torch.from_numpy(self.task.validation[0].labels)
        if self.task.kind == "regression":  # u and d are the error itself, and no prediction is simply right
            return {}
        u, d = self.terms.signals(logits, labels, "gold")
        _, margin = self.terms.signals(logits, labels, "margin")
        signals = {"uncertainty": u, "discrimination": d, "margin": margin}
        return signal_quality(decide(logits) == labels.numpy(), signals)

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """Logits, prediction and label of every validation example; a table a split."""
        return [
            label_table(split, list(logits.reshape(len(split), -1).numpy()), decide(logits))
            for split, logits in zip(self.task.validation, self._logits(model), strict=True)
        ]

    def _logits(self, model: nn.Module) -> list[Tensor]:
        return [predict(model, examples, self.batching, self.accelerator) for examples in self.validation]


def decide(logits: Tensor) -> np.ndarray:
    """Predicted class numbers of [N, C]; in regression [N] the predictions themselves."""
    return (logits.argmax(-1) if logits.dim() == 2 else logits).numpy()
