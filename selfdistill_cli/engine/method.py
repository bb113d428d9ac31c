"""What the engine and a method hand each other in one optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class StepPlan:
    """Which training examples (row numbers) one optimizer step forwards, and their roles."""

    fresh: Sequence[int]
    """The examples that the epoch's order gave to this step."""
    epoch: float
    """Where the run stands before this step, in epochs."""
    previous: Sequence[int] = ()
    """Examples of the step before, forwarded again beside the fresh ones."""

    @property
    def examples(self) -> list[int]:
        """All examples of the step: the fresh ones, then the previous ones."""
        return [*self.fresh, *self.previous]


@dataclass(frozen=True)
class MicroBatch:
    """The part of a step that one forward pass takes: m examples."""

    plan: StepPlan
    positions: Tensor
    """Where each example stands in `plan.examples` [m]."""
    examples: Tensor
    """Each example's row number in the training set [m]."""
    labels: Tensor
    """Gold labels [m]."""


@dataclass(frozen=True)
class PerExampleLoss:
    """Per-example losses of a micro-batch. Their sum over the whole step is the step's loss."""

    total: Tensor
    """[m], with every coefficient (1/n, α_i, w_i) already in it."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Named parts of `total`, each [m]; logged as `loss/<name>`, summed over the step."""
    signals: dict[str, Tensor] = field(default_factory=dict)
    """Named values of k single examples [k] each; how they spread over the step is logged as `<name>/mean` and so on."""
    signals_of: Tensor | None = None
    """Row numbers of these k examples in the training set."""
