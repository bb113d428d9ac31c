"""What the engine asks of a method and of encoded examples, and what they hand each other in one optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepPlan:
    """Which training examples (row numbers) one optimizer step forwards, their roles, and how often.

    A step is cut into micro-batches and shared among processes between units, never within one: a unit is an example,
    or its copies, which a method that compares them must see together.
    """

    fresh: Sequence[int]
    """The examples that the epoch's order gave to this step."""
    epoch: float
    """Where the run stands before this step, in epochs."""
    previous: Sequence[int] = ()
    """Examples of the step before, forwarded again beside the fresh ones."""
    copies: int = 1
    """How often the step forwards each of its examples, with dropout drawn anew for each copy."""

    @property
    def units(self) -> list[int]:
        """The examples of the step, each once: the fresh ones, then the previous ones."""
        return [*self.fresh, *self.previous]

    @property
    def examples(self) -> list[int]:
        """All that the step forwards: the examples of `units`, the copies of each side by side."""
        return [row for row in self.units for _ in range(self.copies)]

    def positions(self, units: np.ndarray) -> np.ndarray:
        """Where the copies of these units (places in `units`) [k] stand in `examples` [k · copies], side by side."""
        return (np.asarray(units)[:, None] * self.copies + np.arange(self.copies)).ravel()


Weights = Mapping[str, Tensor]
"""Parameters by the names that `model.named_parameters()` gives them."""
Keep = Callable[[Any], Any]
"""What is kept of some predictions."""


class PredictAgain(Protocol):
    """Predicts the examples of a micro-batch once more: without dropout or gradient."""

    def __call__(
        self, weights: Weights | None, keep: Keep, of: Examples | None = None, by: nn.Module | None = None
    ) -> Any:
        """`keep` of the predictions, made by the model with these weights in place of its own of the same names.

        Give `Losses.bound` as what is kept. weights: None leaves the model its own; of: other examples under the same row
        numbers, such as the same answers behind other prompts (None: what the step forwards); by: another model.
        """
        ...


def _no_model(weights: Weights | None, keep: Keep, of: Examples | None = None, by: nn.Module | None = None) -> NoReturn:
    raise RuntimeError("this micro-batch was made without a model, so nothing can be predicted with other weights")


@dataclass(frozen=True)
class MicroBatch:
    """The part of a step that one forward pass takes: m examples, among them all copies of each, side by side."""

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
    predict: PredictAgain = _no_model
    """Predicts these m examples once more, by other weights, behind other prompts or by another model."""
    on_host: Tensor | None = None
    """`positions` on the CPU: the engine gives them, so that nobody waits for the device to know them."""

    @cached_property
    def positions_on_host(self) -> Tensor:
        """`positions` on the CPU [m]."""
        return self.positions.cpu() if self.on_host is None else self.on_host

    @cached_property
    def examples_on_host(self) -> Tensor:
        """`examples` on the CPU [m]."""
        return self.examples.cpu() if self.on_host is None else torch.tensor(self.plan.examples)[self.on_host]

    @cached_property
    def repeated(self) -> Tensor:
        """Which of these m are forwarded again, `plan.previous`: their places [k], on the CPU."""
        return torch.from_numpy(np.flatnonzero(self.positions_on_host.numpy() >= len(self.plan.fresh)))

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
    def needs_dropout(self) -> bool: ...
    @property
    def fresh_per_step(self) -> int: ...
    def before_training(self, model: nn.Module) -> None: ...
    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan: ...
    def before_forward(self, plan: StepPlan) -> Examples | None: ...
    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss: ...
    def after_backward(self, plan: StepPlan, logits: Any) -> None: ...
    def after_step(self, model: nn.Module) -> None: ...
    def evaluated_weights(self) -> Weights | None: ...
    def decisions(self, predictions: Any) -> Any: ...
    def after_epoch(self, epoch: int, predict: Any) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Drawn = Mapping[int, np.ndarray]
"""Answers in token numbers, by the row numbers of their examples in the training set."""


class AnswerWriter(Protocol):
    """Draws answers to training examples from the model as it is now: without dropout or gradient.

    Each example has a stream of random numbers of its own, which follows from the run's seed, the number of the drawing
    and the example: so an example's answer does not depend on what is drawn beside it, on micro-batches or on processes,
    and a method that keeps the number in its state draws the same after a kill. Processes share the work, all call it
    alike, and each gets everything. What it costs is counted as `drawing`.
    """

    def draw(self, rows: Sequence[int], number: int, temperature: float) -> Drawn:
        """An answer to each of these examples, of one token at least: with its end of sequence, unless it was cut at
        `task.decoding.max_new_tokens` or `task.max_length`. number: which drawing of the run it is, from 0."""
        ...

    def chance(self, number: int) -> float:
        """A number in [0, 1), drawn for this drawing."""
        ...

    def examples(self, answers: Drawn, behind: Examples | None = None) -> Examples:
        """The training examples with these answers in place of the gold ones, behind their own prompts or those of
        `prompted`."""
        ...

    def prompted(self, template: str) -> Examples:
        """The training examples behind other prompts: `template` with {prompt} and {answer} filled in, the gold answer.

        Raises `UserError` if they are too long.
        """
        ...

    def predict(self, examples: Examples, rows: Sequence[int], keep: Keep) -> Any:
        """`keep` of the model's predictions of these rows, in their order."""
        ...


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
