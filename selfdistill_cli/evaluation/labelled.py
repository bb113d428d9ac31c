"""Scores of a classifier or regressor on validation splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.evaluation.base import OnePass, label_table, require_finite
from selfdistill_cli.evaluation.majority import one_class_alone
from selfdistill_cli.evaluation.signal_quality import signal_quality
from selfdistill_cli.losses.labelled import LabelledLosses
from selfdistill_cli.tasks import TaskData


class LabelledEvaluator(OnePass[Tensor]):
    """Classification and regression."""

    def __init__(self, task: TaskData, validation: Sequence[Any], losses: LabelledLosses, runtime: Runtime) -> None:
        """`validation`: the encoded validation splits."""
        self.task = task
        self.validation = validation
        self.losses = losses
        self.runtime = runtime

    def _predicted(self, model: nn.Module) -> list[Tensor]:
        """Logits [N, C], in regression [N]."""
        return [self.runtime.predict(model, examples) for examples in self.validation]

    def _scores(self, predicted: list[Tensor]) -> Scores:
        """The task's metrics; of a classifier, what the signals of its predictions are worth."""
        from selfdistill_cli.evaluation.metrics import score  # seconds to import, so not before the first evaluation

        found: dict[str, float] = {}
        predicted = [require_finite(logits) for logits in predicted]
        for split, logits in zip(self.task.validation, predicted, strict=True):
            scores = score(self.task, split, decide(logits), probabilities(logits))
            scores["loss"] = float(self.losses.error(logits, torch.from_numpy(split.labels)).mean())
            found |= split.named(scores)
        return Scores(found, self.task.metric, self._signal_quality(predicted[0]), self._remarks(predicted[0]))

    def _remarks(self, logits: Tensor) -> list[str]:
        if not self.task.kind.has_classes:
            return []
        said = one_class_alone(self.task, self.task.validation[0], decide(logits))
        return [] if said is None else [said]

    def _signal_quality(self, logits: Tensor) -> dict[str, float]:
        if not self.task.kind.has_classes:  # u and d are the error itself, and no prediction is simply right
            return {}
        labels = torch.from_numpy(self.task.validation[0].labels)
        u, d = self.losses.signals(logits, labels, "gold")
        _, margin = self.losses.signals(logits, labels, "margin")
        signals = {"uncertainty": u, "discrimination": d, "margin": margin}
        return signal_quality(decide(logits) == labels.numpy(), signals)

    def _tables(self, predicted: list[Tensor]) -> list[pa.Table]:
        """Texts, logits, prediction and label of every validation example; a table a split."""
        return [
            label_table(split, list(logits.reshape(len(split), -1).numpy()), decide(logits), self.task.label_names)
            for split, logits in zip(self.task.validation, predicted, strict=True)
        ]


def decide(logits: Tensor) -> np.ndarray:
    """Predicted class numbers of [N, C]; in regression [N] the predictions themselves."""
    return (logits.argmax(-1) if logits.dim() == 2 else logits).numpy()


def probabilities(logits: Tensor) -> np.ndarray | None:
    """Of the classes [N, C], in double precision, so that large logits do not all become 1; None in regression."""
    return logits.double().softmax(-1).numpy() if logits.dim() == 2 else None
