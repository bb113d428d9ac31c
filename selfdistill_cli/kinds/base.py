"""What differs between kinds of task, as one object: settings, rows, model, losses, scores.

Kinds are known before anything heavy is imported (settings are checked by them), so each method imports what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import DictConfig

from selfdistill_cli.config.checks import diagnostics_of
from selfdistill_cli.config.methods import draws_answers
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.settings import require_metrics

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from selfdistill_cli.engine.method import AnswerWriter, Examples
    from selfdistill_cli.engine.runtime import Runtime
    from selfdistill_cli.evaluation.base import Evaluator
    from selfdistill_cli.losses.base import Losses
    from selfdistill_cli.models import LoadedModel
    from selfdistill_cli.tasks import Split, TaskData
    from selfdistill_cli.tasks.sources import RawSplit

Recipe = tuple[list[str], "Callable[[RawSplit], Split]"]
"""Class names by number (none where there are no classes), and what makes examples of rows."""


class Kind:
    """One kind of task. It has no state: what it is asked about is given each time."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    """Those that `task.metrics` may name, beside the loss."""
    default_metrics: ClassVar[tuple[str, ...]]
    required: ClassVar[tuple[str, ...]] = ()
    """Settings of the task without which there is no such task."""
    uses: ClassVar[frozenset[str]]
    """Settings of the task that it reads, and that another kind may not read."""
    has_classes: ClassVar[bool] = False
    """Whether labels are classes, of which one can stand for another (`task.label_noise`)."""
    writes: ClassVar[bool] = False
    """Whether the model writes answers, so that it can draw some in training (`answer_writer`)."""
    refuses_long: ClassVar[bool] = False
    """Whether an example that is too long is an error and not cut, so that each task needs its own `max_length`."""
    diagnostics: ClassVar[tuple[str, ...]] = ("gradients", "examples")
    """Those that `runtime.diagnostics` may name."""
    model_words: ClassVar[str]
    """What sort of model does it, in words."""
    pipeline_tag: ClassVar[str]
    """The Hugging Face Hub's word for such models."""

    # --- settings -------------------------------------------------------------------------------

    def check(self, cfg: DictConfig, labels: Sequence[str] | None = None) -> None:
        """Raise `UserError` unless the settings go with this kind. labels: class names, once they are known."""
        self.check_task(cfg.task)
        for name in diagnostics_of(cfg.runtime.diagnostics):
            if name not in self.diagnostics:
                raise UserError(
                    f"runtime.diagnostics={name} compares vocabulary maps, which only generation and multiple choice have. "
                    f"Allowed here are {', '.join(self.diagnostics)}."
                )
        if draws_answers(cfg.method) and not self.writes:
            what = "method.outputs=sampled" if "outputs" in cfg.method else f"method={cfg.method.name}"
            raise UserError(
                f"{what} learns from answers that the model writes in training, and a task of {self.name} has none. "
                "Choose a task of generation: task=synth_arithmetic, gsm8k …"
            )

    def check_task(self, task: DictConfig) -> None:
        """The part of `check` that needs the task's settings alone (cfg.task)."""
        for needed in self.required:
            if task[needed] is None:
                raise UserError(f"task.kind={self.name} needs task.{needed}: a column, or a template over columns.")
        require_metrics(task, self.name, self.metrics)
        if task.label_noise and not self.has_classes:
            raise UserError(f"task.label_noise={task.label_noise}: only classes can be replaced by others.")

    def check_data(self, data: TaskData) -> None:
        """Raise `UserError` if settings do not fit the labels that the data turned out to have."""

    # --- data -----------------------------------------------------------------------------------

    def read(self, settings: DictConfig, splits: Sequence[RawSplit]) -> Recipe:
        """How rows of these splits (`settings`: cfg.task) become examples. Raises `UserError` if they cannot."""
        raise NotImplementedError

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """Groups whose shares a subset keeps [N], by the examples' labels [N]."""
        return labels

    # --- model ----------------------------------------------------------------------------------

    def model_class(self, config: Any) -> Any:
        """The Hugging Face class that does it with such an architecture. Raises `UserError` if none does."""
        raise NotImplementedError

    def head(self, label_names: Sequence[str]) -> dict[str, Any]:
        """What a model's configuration says of the outputs."""
        return {}

    def lora_task_type(self, config: Any) -> str:
        """peft's word for it."""
        raise NotImplementedError

    def require_suitable(self, model: Any, train: Any) -> None:
        """Raise `UserError` if the losses do not fit what the model does with its logits."""

    # --- a run ----------------------------------------------------------------------------------

    def prepare_tokenizer(self, task: TaskData, tokenizer: Any) -> None:
        """Give the tokenizer what the task's texts need and it lacks. Done for each model that is loaded: runs of one
        process share what `encode` gives, and not their tokenizers."""

    def encode(self, task: TaskData, loaded: LoadedModel, split: Split) -> Any:
        """The split in tokens: `Examples`, or `AnswerExamples`. Raises `UserError` if it does not fit the model."""
        raise NotImplementedError

    def losses(self, task: TaskData, model: Any) -> Losses[Any]:
        """What a method may ask of the model's predictions."""
        raise NotImplementedError

    def answer_writer(
        self, task: TaskData, loaded: LoadedModel, train: Any, runtime: Runtime, seed: int
    ) -> AnswerWriter:
        """What draws answers to the encoded training examples, where the model `writes`. `seed`: of what it draws.

        Raises `UserError` if a prompt leaves no room for an answer.
        """
        raise NotImplementedError

    def evaluator(
        self, task: TaskData, loaded: LoadedModel, validation: Sequence[Any], losses: Any, runtime: Runtime, seed: int
    ) -> Evaluator:
        """What scores the model on the encoded validation splits. `seed`: of what is drawn in writing."""
        raise NotImplementedError

    def before_saving(self, task: TaskData, loaded: LoadedModel, model: Any) -> None:
        """Set on the trained model what it should be used with by whoever loads it."""

    def hub_tag(self, config: Any) -> str:
        """The Hugging Face Hub's word for what a model of this configuration does."""
        return self.pipeline_tag

    def snippet(self, task: TaskData, loaded: LoadedModel, adapter: bool) -> str:
        """Python that loads the saved model and calls it as it was trained. `adapter`: LoRA's update alone is saved."""
        raise NotImplementedError

    # --- new rows -------------------------------------------------------------------------------

    def unlabelled(self, settings: DictConfig, raw: RawSplit) -> Split:
        """Examples of rows without labels or answers, all of them in their order. Raises `UserError` if one is empty."""
        from selfdistill_cli.tasks.unlabelled import texts_alone

        return texts_alone(settings, raw)

    def predicted(
        self, task: TaskData, loaded: LoadedModel, split: Split, runtime: Runtime, seed: int
    ) -> dict[str, Sequence[Any]]:
        """Columns with what the model, prepared already, says of such examples [N] each; the first is `prediction`."""
        raise NotImplementedError

    # --- teachers and other tasks ---------------------------------------------------------------

    def require_same_outputs(self, task: TaskData, teacher: LoadedModel, student: LoadedModel, folder: Path) -> None:
        """Raise `UserError` if teacher and student do not predict the same things. `folder`: the teacher's."""
        raise NotImplementedError

    def require_same_reading(
        self, task: TaskData, teacher: LoadedModel, student: LoadedModel, train: Any, folder: Path
    ) -> None:
        """Raise `UserError` unless the teacher can be given what the student is given: `train`, and answers drawn to it."""
        raise NotImplementedError

    def kept_of_teacher(self, losses: Any, method: DictConfig) -> tuple[str, Callable[[Any], Any]]:
        """What is stored of a teacher's predictions, in words that tell it from another choice, and what makes it.

        method: the settings of the student's method.
        """
        raise NotImplementedError

    def require_common_labels(self, data: TaskData, trained: TaskData) -> None:
        """Raise `UserError` if another task's labels have nothing in common with those of the trained one."""

    def on_labels_of(
        self, data: TaskData, examples: Sequence[Any], trained: TaskData
    ) -> tuple[TaskData, Sequence[Examples]]:
        """Another task's data and encoded splits, scored over the labels that it has in common with the trained one."""
        return data, examples
