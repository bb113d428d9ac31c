"""Scores on the validation splits."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.encoding import Examples
from selfdistill_cli.engine.prediction import predict
from selfdistill_cli.methods.terms import Terms
from selfdistill_cli.tasks import TaskData


class Evaluator:
    """Scores a model on the task's validation splits."""

    def __init__(
        self, task: TaskData, validation: list[Examples], terms: Terms, token_budget: int, accelerator: Accelerator
    ) -> None:
        self.task = task
        self.validation = validation
        self.terms = terms
        self.token_budget = token_budget
        self.accelerator = accelerator

    def logits(self, model: nn.Module) -> list[Tensor]:
        """Logits of each validation split."""
        return [predict(model, examples, self.token_budget, self.accelerator) for examples in self.validation]

    def metrics(self, model: nn.Module) -> dict[str, float]:
        """The task's metrics and the mean supervised loss; splits after the first carry their name."""
        from selfdistill_cli.tasks.metrics import score  # seconds to import, so not before the first evaluation

        found: dict[str, float] = {}
        for split, logits in zip(self.task.validation, self.logits(model), strict=True):
            prefix = "" if split is self.task.validation[0] else f"{split.name}/"
            scores = score(self.task, split, decide(logits))
            scores["loss"] = float(self.terms.hard(logits, torch.from_numpy(split.labels)).mean())
            found |= {prefix + name: value for name, value in scores.items()}
        return found


def decide(logits: Tensor) -> np.ndarray:
    """Predicted class numbers of [N, C]; in regression [N] the predictions themselves."""
    return (logits.argmax(-1) if logits.dim() == 2 else logits).numpy()
