"""Reweighting by the labels alone: dcs without a teacher and without distillation.

    L = mean_i w_i · CE(z_i, y_i)        δ_i = 1[ argmax z_i ≠ y_i ]
    boosting   each epoch:  w_i ← w_i · λ^{δ_i}, as in dcs (AdaBoost, Freund & Schapire 1997)
    jtt        once:        w_i = λ^{δ_i}, of mean 1       (Just Train Twice, Liu et al., arXiv 2107.09044)

JTT's second training starts anew; here it goes on from the weights of the warm-up, so that it costs
what vanilla does and one prediction of the training set.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.device import widest
from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.methods.base import Method, Predict, TrainingContext


class Reweight(Method):
    """Cross-entropy whose examples gain weight where the prediction is wrong."""

    def __init__(
        self,
        context: TrainingContext,
        rule: str,
        lambda_: float,
        max_weight: float,
        warmup_epochs: int,
        error_quantile: float,
    ) -> None:
        super().__init__(context)
        self.rule = rule
        self.gain = float(lambda_)
        self.max_weight = max_weight
        self.warmup_epochs = warmup_epochs
        self.error_quantile = error_quantile
        # As in dcs: rounding would drift over many rounds.
        self.weights = torch.ones(context.examples, dtype=widest(context.device), device=context.device)
        self.wrong = torch.zeros(context.examples, dtype=torch.bool, device=context.device)

    @property
    def begins_at(self) -> float:
        return self.warmup_epochs

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        supervised = self.context.losses.supervised(logits, batch)
        weights = self.weights[batch.examples]
        ce = weights.to(supervised) * supervised / len(batch.plan.examples)
        return PerExampleLoss(ce, {"ce": ce}, {"weights": weights}, batch.examples)

    def after_epoch(self, epoch: int, predict: Predict) -> dict[str, float]:
        finished = epoch + 1
        if finished == self.warmup_epochs or (self.rule == "boosting" and finished > self.warmup_epochs):
            labels = None if self.context.labels is None else self.context.labels.cpu()  # as predictions are
            wrong = self.context.losses.wrong(predict(), labels, self.error_quantile)
            self.wrong = wrong.to(self.context.device)
            if self.rule == "boosting":
                self.weights = objectives.boost(self.weights, self.wrong, self.gain, self.max_weight)
            else:
                self.weights = objectives.to_mean_one(torch.where(self.wrong, self.weights * self.gain, self.weights))
        if finished < self.warmup_epochs:
            return {}
        return {
            "wrong/fraction": objectives.share(self.wrong),
            "weights/entropy": objectives.weight_entropy(self.weights),
            "weights/effective_sample_size": objectives.effective_sample_size(self.weights),
            "weights/largest": float(self.weights.max()),
        }

    def per_example(self) -> dict[str, Tensor]:
        return {"weights": self.weights.cpu(), "wrong": self.wrong.cpu()}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.per_example())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights, self.wrong = (state[name].to(self.context.device) for name in ("weights", "wrong"))
