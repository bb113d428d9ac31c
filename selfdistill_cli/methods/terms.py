"""The terms that methods are made of, for each kind of task: one interface, one class a kind."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from selfdistill_cli import objectives


class Terms(Protocol):
    """Losses and signals, one value an example. Logits are [n, C]; in regression, predictions [n]."""

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The supervised loss [n]."""
        ...

    def soft(self, teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
        """The distillation term of static_sd and dynsdpb at temperature τ_i, τ_i² included [n]."""
        ...

    def teach(self, teacher: Tensor, student: Tensor, tau: float) -> Tensor:
        """The distillation term of kd and dcs [n]."""
        ...

    def uncertainty(self, logits: Tensor, labels: Tensor) -> Tensor:
        """u_i in [0, 1] [n]."""
        ...

    def discrimination(self, logits: Tensor, labels: Tensor, form: str) -> Tensor:
        """d_i in [0, 1] [n]; `form` is `gold` or `margin`."""
        ...

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        """On which examples student and teacher disagree, bool [n]."""
        ...

    def right(self, logits: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        """Where `logits` had it right (in regression: came closer than `other`), bool [n]."""
        ...


class ClassificationTerms:
    """Cross-entropy, tempered KL, entropy and likelihood of the class distribution."""

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        return objectives.cross_entropy(logits, labels)

    def soft(self, teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
        return objectives.tempered_kl(teacher, student, tau)

    def teach(self, teacher: Tensor, student: Tensor, tau: float) -> Tensor:
        return objectives.tempered_kl(teacher, student, tau)

    def uncertainty(self, logits: Tensor, labels: Tensor) -> Tensor:
        return objectives.uncertainty(logits)

    def discrimination(self, logits: Tensor, labels: Tensor, form: str) -> Tensor:
        if form == "margin":
            return objectives.margin_discrimination(logits)
        return objectives.gold_discrimination(logits, labels)

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        return objectives.discordance(teacher, student)

    def right(self, logits: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        return logits.argmax(-1) == labels


class RegressionTerms:
    """Squared errors; the prediction stands for the mean of a Gaussian."""

    def __init__(self, label_range: float) -> None:
        """`label_range`: largest minus smallest training label, the unit of u_i."""
        self.label_range = label_range

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        return objectives.squared_error(logits, labels)

    def soft(self, teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
        return objectives.gaussian_kl(teacher, student, tau)

    def teach(self, teacher: Tensor, student: Tensor, tau: float) -> Tensor:
        return objectives.squared_error(student, teacher.detach())

    def uncertainty(self, logits: Tensor, labels: Tensor) -> Tensor:
        return objectives.regression_uncertainty(logits, labels, self.label_range)

    def discrimination(self, logits: Tensor, labels: Tensor, form: str) -> Tensor:
        # `margin` needs class probabilities; checks.check has refused it for regression.
        return 1 - self.uncertainty(logits, labels)

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        return objectives.regression_discordance(teacher, student, quantile)

    def right(self, logits: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        return (logits - labels).abs() < (other - labels).abs()
