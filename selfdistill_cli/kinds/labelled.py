"""What classification and regression share: a head labels each example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.base import Kind, Recipe
from selfdistill_cli.kinds.settings import require_group
from selfdistill_cli.system.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from selfdistill_cli.engine.runtime import Runtime
    from selfdistill_cli.evaluation.base import Evaluator
    from selfdistill_cli.models import LoadedModel
    from selfdistill_cli.tasks import Split, TaskData
    from selfdistill_cli.tasks.sources import RawSplit

OF_CLASSES = (
    *("accuracy", "balanced_accuracy", "f1", "precision", "recall", "macro_f1", "macro_precision", "macro_recall"),
    *("matthews", "auroc", "exact_match"),
)
OF_NUMBERS = ("pearson", "spearman", "mse", "mae")
CLASSES_USE = frozenset({"labels", "group", "label_noise", "label_map", "class_weights"})
"""Settings of a task that a classification alone reads, of the two."""


class LabelledKind(Kind):
    """Predictions are one row of logits, or one number, an example."""

    uses = frozenset({"text_pair", "label", "weight"})
    model_words = "sequence classifier"
    pipeline_tag = "text-classification"

    def check(self, cfg: DictConfig, labels: Sequence[str] | None = None) -> None:
        super().check(cfg, labels)
        if cfg.method.get("overlap") == "none":
            raise UserError(
                "method.overlap=none: with no example forwarded twice there is nothing to compare in "
                "classification and regression. Allowed are append, half."
            )
        if cfg.method.get("match") == "token":
            raise UserError(
                "method.match=token compares answer tokens, which only generation and multiple choice have."
            )

    def read(self, settings: DictConfig, splits: Sequence[RawSplit]) -> Recipe:
        from selfdistill_cli.tasks.labels import LabelCodec
        from selfdistill_cli.tasks.rows import labelled_split

        codec = LabelCodec.for_task(settings, self.name, splits)
        return codec.names, partial(labelled_split, settings, codec)

    def model_class(self, config: Any) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def lora_task_type(self, config: Any) -> str:
        return "SEQ_CLS"

    def encode(self, task: TaskData, loaded: LoadedModel, split: Split) -> Any:
        from selfdistill_cli.encoding.labelled import encode
        from selfdistill_cli.models.positions import positions_of

        examples = encode(loaded.tokenizer, split, task.settings.max_length)
        positions, longest = positions_of(loaded.model), int(examples.lengths.max(initial=0))
        if positions is not None and longest > positions:
            raise UserError(
                f"task.max_length={task.settings.max_length}: an example of {split.name} has {longest} tokens, and this model "
                f"knows {positions} places. Take task.max_length={positions}."
            )
        return examples

    def evaluator(
        self, task: TaskData, loaded: LoadedModel, validation: Sequence[Any], losses: Any, runtime: Runtime, seed: int
    ) -> Evaluator:
        from selfdistill_cli.evaluation.labelled import LabelledEvaluator

        return LabelledEvaluator(task, validation, losses, runtime)

    def snippet(self, task: TaskData, loaded: LoadedModel, adapter: bool) -> str:
        from selfdistill_cli.encoding.labelled import separates_pairs
        from selfdistill_cli.kinds.snippets import labelled

        one_text = not separates_pairs(loaded.tokenizer)
        return labelled(task.settings, not self.has_classes, adapter, one_text)

    def predicted(
        self, task: TaskData, loaded: LoadedModel, split: Split, runtime: Runtime, seed: int
    ) -> dict[str, Sequence[Any]]:
        from selfdistill_cli.tasks.findings import say_cut

        examples = self.encode(task, loaded, split)
        say_cut(split.name, task.settings, examples)
        return self.shown(task, runtime.predict(loaded.model, examples))

    def shown(self, task: TaskData, logits: Any) -> dict[str, Sequence[Any]]:
        """Columns that say in words what logits [N, C], or outputs [N], mean."""
        raise NotImplementedError

    def require_same_outputs(self, task: TaskData, teacher: LoadedModel, student: LoadedModel, folder: Path) -> None:
        config, expected = teacher.model.config, len(task.label_names) or 1
        if config.num_labels != expected:
            raise UserError(
                f"The teacher in {folder} has {counted(config.num_labels, 'output')}, task={task.name} needs {expected}."
            )
        names = [config.id2label[number] for number in range(expected)]
        named = not all(name.startswith("LABEL_") for name in names)
        if task.label_names and named and names != task.label_names:
            raise UserError(f"The teacher in {folder} has the labels {names}, task={task.name} has {task.label_names}.")

    def kept_of_teacher(self, losses: Any, method: DictConfig) -> tuple[str, Callable[[Any], Any]]:
        from selfdistill_cli.engine.predictions import on_cpu

        return "logits", on_cpu


class ReadOffLabels(LabelledKind):
    """One of the two, while the labels that tell which one have not been read."""

    name = "classification or regression"
    metrics = (*OF_CLASSES, *OF_NUMBERS)
    has_classes = True
    uses = LabelledKind.uses | CLASSES_USE

    def check_task(self, task: DictConfig) -> None:
        super().check_task(task)
        require_group(task)
