"""What the engine asks of a method and of encoded examples, and what they hand each other in one optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn


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
    labels: Tensor | None
    """Gold labels [m]; None where they are answer tokens, which stand beside the predictions."""
    weights: Tensor | None = None
    """How much each example counts [m], 1 on average over the training set; None: all the same. The engine multiplies
    what `Method.loss` gives by them, so a method need not."""

    @property
    def gold(self) -> Tensor:
        """The labels of a kind of task that has them [m]."""
        assert self.labels is not None
        return self.labels


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

    def weighted(self, weights: Tensor | None) -> PerExampleLoss:
        """Every example's loss, and each part of it, times its weight [m]; signals are left as they are."""
        if weights is None:
            return self
        parts = {name: part * weights for name, part in self.parts.items()}
        return PerExampleLoss(self.total * weights, parts, self.signals, self.signals_of)


class TrainingMethod(Protocol):
    """What the loop asks of a method; `selfdistill_cli.methods.Method` describes each part."""

    @property
    def begins_at(self) -> float: ...
    @property
    def needs_whole_step(self) -> bool: ...
    @property
    def fresh_per_step(self) -> int: ...
    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan: ...
    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss: ...
    def after_backward(self, plan: StepPlan, logits: Any) -> None: ...
    def decisions(self, predictions: Any) -> Any: ...
    def after_epoch(self, epoch: int, predict: Any) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Examples(Protocol):
    """Encoded examples, and how a model makes predictions of them."""

    def __len__(self) -> int: ...
    @property
    def labels(self) -> np.ndarray | None:
        """Gold labels [N]; None where they are answer tokens."""
        ...

    @property
    def weights(self) -> np.ndarray | None:
        """How much each counts in training [N], 1 on average; None: all the same."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example that a forward pass takes [N]."""
        ...

    def collate(self, rows: np.ndarray, width_multiple: int) -> Any:
        """These examples as a model takes them, padded to a multiple."""
        ...

    def forward(self, model: nn.Module, batch: Any, device: torch.device) -> Any:
        """Predictions of what `collate` gave: logits [m, C], outputs [m], or `TokenRows`."""
        ...
