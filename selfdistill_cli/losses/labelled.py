"""Losses of predicted labels: classification and regression, whose predictions are tensors of one row an example."""

from __future__ import annotations

from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.method import MicroBatch
from selfdistill_cli.engine.predictions import rows_of
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.base import Comparison, Losses, OfCopies, OfLogits
from selfdistill_cli.losses.divergences import Measure


class LabelledLosses(Losses[Tensor]):
    """What classification and regression share. Subclasses give `error`, `distance`, `taught`, and the signals."""

    def error(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """The supervised loss of predictions with these labels [m]."""
        raise NotImplementedError

    def distance(self, previous: Tensor, predictions: Tensor, tau: Tensor, compared: Comparison) -> Tensor:
        """From predictions of one step ago, at temperatures τ_i [m], τ_i² included [m]."""
        raise NotImplementedError

    def taught(self, teacher: Tensor, predictions: Tensor, tau: float, standardize: bool) -> Tensor:
        """The distillation loss of `from_teacher` [m]."""
        raise NotImplementedError

    def supervised(self, predictions: Tensor, batch: MicroBatch) -> Tensor:
        return self.error(predictions, batch.gold)

    def from_previous(
        self,
        predictions: Tensor,
        batch: MicroBatch,
        repeated: Tensor,
        previous: Tensor,
        tau: Tensor,
        compared: Comparison,
    ) -> tuple[Tensor, Tensor]:
        return self.supervised(predictions, batch), self.distance(
            previous, rows_of(predictions, repeated), tau, compared
        )

    def between_batches(
        self, predictions: Tensor, batch: MicroBatch, previous: Tensor, tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        raise ValueError("without common examples only answers can be compared: the checks of settings refuse it")

    def from_teacher(
        self, predictions: Tensor, batch: MicroBatch, teacher: Tensor, tau: float, standardize: bool = False
    ) -> tuple[Tensor, Tensor]:
        return self.supervised(predictions, batch), self.taught(teacher, predictions, tau, standardize)

    def decisions(self, predictions: Tensor) -> Tensor:
        return predictions.float().cpu()

    def bound(self, predictions: Tensor) -> Tensor:
        return predictions

    def snapshot(self, predictions: Tensor) -> Tensor:
        return predictions.clone()

    def to_state(self, predictions: Tensor | None) -> Tensor | None:
        return predictions

    def from_state(self, state: Tensor | None) -> Tensor | None:
        return state


class ClassificationLosses(LabelledLosses):
    """Cross-entropy, tempered KL, entropy and likelihood of the class distribution. Predictions: logits [m, C]."""

    def error(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return objectives.cross_entropy(predictions, labels)

    def distance(self, previous: Tensor, predictions: Tensor, tau: Tensor, compared: Comparison) -> Tensor:
        return objectives.tempered_kl(previous, predictions, tau)

    def taught(self, teacher: Tensor, predictions: Tensor, tau: float, standardize: bool) -> Tensor:
        if standardize:
            teacher, predictions = objectives.standardized(teacher), objectives.standardized(predictions)
        return objectives.tempered_kl(teacher, predictions, tau)

    def from_corrected(
        self, predictions: Tensor, batch: MicroBatch, base: Tensor, theta: float
    ) -> tuple[Tensor, Tensor]:
        return objectives.corrected_kl(base, predictions, batch.gold, theta)

    def divergence(self, predictions: Tensor, batch: MicroBatch, teacher: Tensor, measure: Measure) -> Tensor:
        return measure(teacher, predictions)

    def of_logits(self, function: OfLogits, predictions: Tensor, batch: MicroBatch) -> Tensor:
        return function(predictions.float(), batch.gold)

    def of_copies(self, function: OfCopies, predictions: Tensor, batch: MicroBatch) -> Tensor:
        copies = batch.plan.copies
        return function(predictions.float().reshape(-1, copies, predictions.shape[-1]), batch.gold[::copies])

    def between_copies(self, predictions: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        supervised, divergence = self.of_copies(objectives.of_two_copies, predictions, batch).unbind(-1)
        return supervised, divergence

    def signals(self, predictions: Tensor, labels: Tensor | None, discrimination: str) -> tuple[Tensor, Tensor]:
        assert labels is not None
        u = objectives.uncertainty(predictions)
        if discrimination == "margin":
            return u, objectives.margin_discrimination(predictions)
        return u, objectives.gold_discrimination(predictions, labels)

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        return objectives.discordance(teacher, student)

    def correct(self, predictions: Tensor, other: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return predictions.argmax(-1) == labels

    def wrong(self, predictions: Tensor, labels: Tensor | None, quantile: float) -> Tensor:
        return ~self.correct(predictions, predictions, labels)


class RegressionLosses(LabelledLosses):
    """Squared errors; a prediction [m] stands for the mean of a Gaussian."""

    def __init__(self, label_range: float) -> None:
        """`label_range`: largest minus smallest training label, the unit of u_i."""
        self.label_range = label_range

    def error(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return objectives.squared_error(predictions, labels)

    def distance(self, previous: Tensor, predictions: Tensor, tau: Tensor, compared: Comparison) -> Tensor:
        # τ_i² · KL of width τ_i is KL of width 1: τ_i cancels.
        return objectives.gaussian_kl(previous, predictions, tau if compared.regression == "width" else 1.0)

    def taught(self, teacher: Tensor, predictions: Tensor, tau: float, standardize: bool) -> Tensor:
        if standardize:
            raise ValueError("a single output has no spread: the checks of settings refuse it")
        return objectives.squared_error(predictions, teacher.detach())

    def from_corrected(
        self, predictions: Tensor, batch: MicroBatch, base: Tensor, theta: float
    ) -> tuple[Tensor, Tensor]:
        raise ValueError("a regression has no distribution: the checks of settings refuse it")

    def divergence(self, predictions: Tensor, batch: MicroBatch, teacher: Tensor, measure: Measure) -> Tensor:
        raise ValueError("a regression has no distribution: the checks of settings refuse it")

    def of_copies(self, function: OfCopies, predictions: Tensor, batch: MicroBatch) -> Tensor:
        return self.of_logits(function, predictions, batch)

    def between_copies(self, predictions: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        supervised = self.supervised(predictions, batch).reshape(-1, 2).mean(-1)
        return supervised, objectives.squared_error(predictions[::2], predictions[1::2])

    def of_logits(self, function: OfLogits, predictions: Tensor, batch: MicroBatch) -> Tensor:
        raise UserError(
            "This method reads a distribution over classes, and a regression predicts a single number. "
            "Use it with classification, generation or multiple choice."
        )

    def signals(self, predictions: Tensor, labels: Tensor | None, discrimination: str) -> tuple[Tensor, Tensor]:
        assert labels is not None
        if discrimination != "gold":
            raise ValueError("a regression has no margin: the checks of settings refuse it")
        u = objectives.regression_uncertainty(predictions, labels, self.label_range)
        return u, 1 - u

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        return objectives.regression_discordance(teacher, student, quantile)

    def correct(self, predictions: Tensor, other: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        return (predictions - labels).abs() < (other - labels).abs()

    def wrong(self, predictions: Tensor, labels: Tensor | None, quantile: float) -> Tensor:
        assert labels is not None
        return objectives.regression_discordance(labels, predictions, quantile)
