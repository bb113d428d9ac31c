"""What a training method is: a small object that plans a step and turns logits into losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from selfdistill_cli.engine.method import AnswerWriter, Examples, MicroBatch, PerExampleLoss, StepPlan, Weights
from selfdistill_cli.engine.predictions import Predictions, near, rows_of
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.base import Losses


@dataclass(frozen=True)
class TeacherModel:
    """A teacher that is held in memory: it does not learn, and has the student's vocabulary."""

    model: nn.Module
    """In evaluation mode, ready to compute beside the student."""
    losses: Losses[Any]
    """Those of its own output layer: `losses.bound` is what is kept of its predictions."""


@dataclass(frozen=True)
class TrainingContext:
    """What a method may know about the run that it takes part in."""

    losses: Losses[Any]
    """The losses and signals of this kind of task."""
    examples: int
    """How many the training set has, N."""
    labels: Tensor | None
    """Gold labels of the training set [N]: class numbers, or floats in regression. None where they are answer tokens,
    which stand beside the predictions."""
    batch_size: int
    """`schedule.batch_size`: examples a step, before a method adds any."""
    teacher_logits: Any = None
    """The teacher's logits on the training set, if the method has a `teacher`: [N, C], [N] in regression, of a language
    model its top entries at each answer token."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the model is, and with it what a method remembers from step to step."""
    teacher: TeacherModel | None = None
    """The teacher itself, if the method holds it in memory."""
    make_writer: Callable[[], AnswerWriter] | None = None
    """Makes what draws answers to the training examples, where the kind of task writes any."""

    @classmethod
    def of(
        cls,
        losses: Losses[Any],
        train: Examples,
        batch_size: int,
        teacher_logits: Any = None,
        device: torch.device | None = None,
    ) -> TrainingContext:
        """The context of a run on these encoded training examples. device: of the model (None: the CPU)."""
        where = device or torch.device("cpu")
        labels = None if train.labels is None else torch.from_numpy(train.labels).to(where)
        return cls(losses, len(train), labels, batch_size, near(teacher_logits, where), where)

    def writer(self) -> AnswerWriter:
        """What draws answers. Raises `UserError` where none are written, or a prompt leaves them no room."""
        if self.make_writer is None:
            raise UserError(
                "This method learns from answers that the model writes, and this task has none. Choose a task of "
                "generation: task=synth_arithmetic."
            )
        return self.make_writer()

    def labels_of(self, rows: Any) -> Tensor | None:
        """Gold labels of these training examples [k], where the model is, if the kind of task has them."""
        return None if self.labels is None else rows_of(self.labels, rows)

    def taught(self, batch: MicroBatch) -> Any:
        """The teacher's logits of a micro-batch, where the model is."""
        return rows_of(self.teacher_logits, batch.examples_on_host).to(self.device)


Predict = Callable[[], Any]
"""Gives what `Losses.decisions` keeps of the model's predictions on the whole training set, dropout off: logits [N, C],
[N] in regression, of a language model its likeliest token at each place."""


class Method:
    """A training method. Subclasses must give `loss`; everything else has a default.

    Hydra makes it from `conf/method/<name>.yaml`: `_target_` names the class, and every other key
    but `name`, `teacher`, `generations` and `passes` (which the runner reads) is a keyword argument of the constructor.
    """

    def __init__(self, context: TrainingContext) -> None:
        self.context = context

    @property
    def begins_at(self) -> float:
        """When it departs from plain training, in epochs: the best evaluation is chosen among those after it."""
        return 0.0

    @property
    def needs_whole_step(self) -> bool:
        """True if `loss` must see all examples of a step at once; costs the memory of a whole batch."""
        return False

    @property
    def needs_dropout(self) -> bool:
        """True if it compares passes that differ by dropout alone: a model without is refused before training."""
        return False

    @property
    def fresh_per_step(self) -> int:
        """How many fresh examples a step takes."""
        return self.context.batch_size

    def before_training(self, model: nn.Module) -> None:
        """See the model as training finds it, before the first step or the state of a continued run."""

    def plan(self, fresh: Sequence[int], epoch: float) -> StepPlan:
        """Choose the examples that this step forwards, how often, given the fresh ones and the time in epochs."""
        return StepPlan(fresh, epoch)

    def before_forward(self, plan: StepPlan) -> Examples | None:
        """Choose what is forwarded in place of the training examples, under the same row numbers; None: these themselves.

        Here answers may be drawn (`self.context.writer()`, made once). Every process calls it.
        """
        return None

    def loss(self, logits: Any, batch: MicroBatch) -> PerExampleLoss:
        """Turn logits [m, C] ([m] in regression, values at answer tokens of a language model) into per-example losses."""
        raise NotImplementedError

    def after_backward(self, plan: StepPlan, logits: Predictions) -> None:
        """See the logits of this step's forward pass, before the weights change: in the order of `plan.examples`."""

    def after_step(self, model: nn.Module) -> None:
        """See the model when a step has changed its weights. Every process calls it, with the same weights."""

    def evaluated_weights(self) -> Weights | None:
        """Weights to be evaluated, chosen and saved in place of the model's own of the same names; None: its own."""
        return None

    def decisions(self, predictions: Predictions) -> Any:
        """What is kept of a batch's predictions for `after_epoch`."""
        return self.context.losses.decisions(predictions)

    def after_epoch(self, epoch: int, predict: Predict) -> dict[str, float]:
        """Act when epoch number `epoch` (from 0) has ended; what is returned is logged."""
        return {}

    def per_example(self) -> dict[str, Tensor]:
        """What the method knows of each training example at the end of training [N] each, for examples.parquet."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continued run needs: tensors, numbers, strings, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
