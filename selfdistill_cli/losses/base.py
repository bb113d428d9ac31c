"""What a method may ask of predictions: one interface for every kind of task, one value an example.

Predictions of m examples are logits [m, C], outputs [m] in regression, or a language model's values at its answer
tokens (`TokenRows`). Their gold labels are in the micro-batch, or, at answer tokens, beside the predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

from selfdistill_cli.engine.method import MicroBatch
from selfdistill_cli.losses.divergences import Measure

P = TypeVar("P")
"""The predictions of a kind of task."""


class Comparison(NamedTuple):
    """What the distillation from the previous step compares, where a kind of task leaves a choice."""

    match: str
    """At answer tokens: `vmm` (vocabulary maps) or `token`."""
    regression: str
    """In regression: `scaled` (τ_i² · KL, in which τ_i cancels) or `width` (KL alone)."""


OfLogits = Callable[[Tensor, Tensor], Tensor]
"""A function of logits [t, C] and gold labels [t]: values [t] or [t, J]. t are examples, or some answer tokens."""
OfCopies = Callable[[Tensor, Tensor], Tensor]
"""A function of the logits of copies [t, c, C] and their gold labels [t]: values [t] or [t, J]."""


class Losses(Protocol[P]):
    """Losses and signals of one kind of task. Nothing is averaged over examples: methods weigh them."""

    # --- losses ---------------------------------------------------------------------------------

    def supervised(self, predictions: P, batch: MicroBatch) -> Tensor:
        """CE(z_i, y_i), its mean over answer tokens, or the squared error [m]."""
        ...

    def from_previous(
        self, predictions: P, batch: MicroBatch, repeated: Tensor, previous: P, tau: Tensor, compared: Comparison
    ) -> tuple[Tensor, Tensor]:
        """`supervised` of all m, and τ_i² · KL(previous ‖ current) of the k examples that are forwarded again.

        repeated: the places of these k among the m, on the CPU; previous: what was predicted of them one step ago; tau [k].
        """
        ...

    def between_batches(self, predictions: P, batch: MicroBatch, previous: P, tau: Tensor) -> tuple[Tensor, Tensor]:
        """`supervised`, and each example's share of τ² · KL between the mean maps of two batches [m].

        predictions: of the whole step; previous: of the whole step before, without an example in common; tau: a number.
        """
        ...

    def from_teacher(
        self, predictions: P, batch: MicroBatch, teacher: P, tau: float, standardize: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`supervised`, and τ² · KL(teacher ‖ student) of kd, dcs and ema (squared error in regression) [m] each.

        teacher: predictions of these m examples, stored or made by other weights (`MicroBatch.predict`).
        standardize: of logits of mean 0 and standard deviation 1; stored top entries must have been kept so, at τ.
        """
        ...

    def from_corrected(self, predictions: P, batch: MicroBatch, base: P, theta: float) -> tuple[Tensor, Tensor]:
        """KL(p̃ ‖ student) of mft, and how much more probability p̃ gives the label than `base` did [m] each.

        base: predictions of these m examples, which the labels correct; means over answer tokens.
        """
        ...

    def divergence(self, predictions: P, batch: MicroBatch, teacher: P, measure: Measure) -> Tensor:
        """D(teacher, student) of gkd and sdft [m], its mean over answer tokens.

        teacher: predictions of these m examples, whose answers have the same tokens; it receives no gradient.
        Raises `ValueError` where there is no distribution (regression).
        """
        ...

    def of_logits(self, function: OfLogits, predictions: P, batch: MicroBatch) -> Tensor:
        """A method's own loss: `function` of each example's logits, or its mean over an example's answer tokens.

        Answer tokens come in chunks of whole rows, since their logits are never held at once; so `function` must treat
        each row by itself. Values [m], or [m, J] if it gives several. Gradients flow to the model through the logits.
        Raises `UserError` where there is no distribution (regression).
        """
        ...

    def of_copies(self, function: OfCopies, predictions: P, batch: MicroBatch) -> Tensor:
        """As `of_logits`, a function of all c copies of an example at once (`StepPlan.copies`): values [m / c] or [m / c, J].

        At answer tokens it compares the copies token by token.
        """
        ...

    def between_copies(self, predictions: P, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Of each example's two copies: `supervised`, their mean, and ½(KL(p¹ ‖ p²) + KL(p² ‖ p¹)) [m / 2] each.

        At answer tokens both are means over tokens; in regression the second is (z¹ − z²)². Gradients flow through both
        copies.
        """
        ...

    # --- signals --------------------------------------------------------------------------------

    def signals(self, predictions: P, labels: Tensor | None, discrimination: str) -> tuple[Tensor, Tensor]:
        """u_i and d_i, in [0, 1] [m] each; `discrimination` is `gold` or `margin`.

        labels [m]; None at answer tokens, whose labels are beside the predictions.
        """
        ...

    def decisions(self, predictions: P) -> Any:
        """What `discordant` and `correct` compare, on the CPU: logits, or the likeliest token at each place."""
        ...

    def discordant(self, teacher: P, student: P, quantile: float) -> Tensor:
        """On which examples student and teacher disagree, bool [m]. `quantile`: of the gap, in regression."""
        ...

    def correct(self, predictions: P, other: P, labels: Tensor | None) -> Tensor:
        """Where `predictions` are right (in regression: nearer to the label than `other`), bool [m]."""
        ...

    def wrong(self, predictions: P, labels: Tensor | None, quantile: float) -> Tensor:
        """Where predictions are not the gold label, bool [m]; in regression, farther from it than that quantile."""
        ...

    # --- memory ---------------------------------------------------------------------------------

    def bound(self, predictions: P) -> P:
        """Predictions that keep to the weights that the model has now, which are not copied."""
        ...

    def snapshot(self, predictions: P) -> P:
        """Predictions in a form that outlives the update of the weights."""
        ...

    def to_state(self, predictions: P | None) -> Any:
        """A snapshot (or None) for a checkpoint."""
        ...

    def from_state(self, state: Any) -> P | None:
        """Take back what `to_state` gave."""
        ...
