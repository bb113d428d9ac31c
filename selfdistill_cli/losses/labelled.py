"""The terms that methods are made of, for each kind of task: one interface, one class a kind."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from selfdistill_cli import objectives


class Terms(Protocol):
    """Losses and signals, one value an example.

    Predictions are logits [n, C], outputs [n] in regression, or a language model's values at answer tokens.
    """

    def hard(self, logits: Any, labels: Tensor) -> Tensor:
        """The supervised loss [n]."""
        ...

    def hard_and_soft(
        self, student: Any, labels: Tensor, again: Tensor, teacher: Any, tau: Tensor, match: str
    ) -> tuple[Tensor, Tensor]:
        """`hard` of all n, and static_sd's and dynsdpb's term, τ_i² included, of the k examples `again` (bool [n]).

        teacher: the previous predictions of these k; tau [k]; `match` is `vmm` or `token` (language models).
        """
        ...

    def hard_and_batch_soft(self, student: Any, labels: Tensor, teacher: Any, tau: Tensor) -> tuple[Tensor, Tensor]:
        """`hard`, and each example's share of the term between two batches without common examples [n]."""
        ...

    def hard_and_teach(self, student: Any, labels: Tensor, teacher: Any, tau: float) -> tuple[Tensor, Tensor]:
        """`hard`, and the distillation term of kd and dcs [n] each."""
        ...

    def signals(self, logits: Any, labels: Tensor, form: str) -> tuple[Tensor, Tensor]:
        """u_i and d_i, in [0, 1] [n] each; `form` of d_i is `gold` or `margin`."""
        ...

    def remembered(self, logits: Any) -> Any:
        """Predictions in a form that outlives the update of the weights."""
        ...

    def to_state(self, logits: Any) -> Any:
        """Remembered predictions (or None) for a checkpoint."""
        ...

    def from_state(self, state: Any) -> Any:
        """Take back what `to_state` gave."""
        ...

    def choices(self, logits: Any) -> Any:
        """What `discordant` and `right` need of predictions, on the CPU."""
        ...

    def discordant(self, teacher: Any, student: Any, quantile: float) -> Tensor:
        """On which examples student and teacher disagree, bool [n]."""
        ...

    def right(self, logits: Any, other: Any, labels: Tensor) -> Tensor:
        """Where `logits` had it right (in regression: came closer than `other`), bool [n]."""
        ...


class LogitTerms:
    """What classification and regression share: predictions are tensors of one row an example."""

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def soft(self, teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
        """The distillation term of static_sd and dynsdpb at τ_i, τ_i² included [n]."""
        raise NotImplementedError

    def teach(self, teacher: Tensor, student: Tensor, tau: float) -> Tensor:
        """The distillation term of kd and dcs [n]."""
        raise NotImplementedError

    def hard_and_soft(
        self, student: Tensor, labels: Tensor, again: Tensor, teacher: Tensor, tau: Tensor, match: str
    ) -> tuple[Tensor, Tensor]:
        return self.hard(student, labels), self.soft(teacher, student[again], tau)

    def hard_and_batch_soft(
        self, student: Tensor, labels: Tensor, teacher: Tensor, tau: Tensor
    ) -> tuple[Tensor, Tensor]:
        raise ValueError("without common examples only language models can be compared: checks.check refuses it")

    def hard_and_teach(self, student: Tensor, labels: Tensor, teacher: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        return self.hard(student, labels), self.teach(teacher, student, tau)

    def remembered(self, logits: Tensor) -> Tensor:
        return logits.clone()

    def to_state(self, logits: Tensor | None) -> Tensor | None:
        return logits

    def from_state(self, state: Tensor | None) -> Tensor | None:
        return state

    def choices(self, logits: Tensor) -> Tensor:
        return logits.float().cpu()


class ClassificationTerms(LogitTerms):
    """Cross-entropy, tempered KL, entropy and likelihood of the class distribution."""

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        return objectives.cross_entropy(logits, labels)

    def soft(self, teacher: Tensor, student: Tensor, tau: Tensor | float) -> Tensor:
        return objectives.tempered_kl(teacher, student, tau)

    def teach(self, teacher: Tensor, student: Tensor, tau: float) -> Tensor:
        return objectives.tempered_kl(teacher, student, tau)

    def signals(self, logits: Tensor, labels: Tensor, form: str) -> tuple[Tensor, Tensor]:
        u = objectives.uncertainty(logits)
        if form == "margin":
            return u, objectives.margin_discrimination(logits)
        return u, objectives.gold_discrimination(logits, labels)

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        return objectives.discordance(teacher, student)

    def right(self, logits: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        return logits.argmax(-1) == labels


class RegressionTerms(LogitTerms):
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

    def signals(self, logits: Tensor, labels: Tensor, form: str) -> tuple[Tensor, Tensor]:
        # `margin` needs class probabilities; checks.check has refused it for regression.
        u = objectives.regression_uncertainty(logits, labels, self.label_range)
        return u, 1 - u

    def discordant(self, teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
        return objectives.regression_discordance(teacher, student, quantile)

    def right(self, logits: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        return (logits - labels).abs() < (other - labels).abs()
