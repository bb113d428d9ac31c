"""Classification: one of C classes an example. Logits [m, C], cross-entropy, tempered KL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.labelled import CLASSES_USE, OF_CLASSES, LabelledKind
from selfdistill_cli.kinds.settings import require_group, require_two_classes

if TYPE_CHECKING:
    from selfdistill_cli.engine.method import Examples
    from selfdistill_cli.losses.labelled import ClassificationLosses
    from selfdistill_cli.tasks import TaskData


class Classification(LabelledKind):
    """Labels are class numbers."""

    name = "classification"
    metrics = OF_CLASSES
    default_metrics = ("accuracy", "macro_f1")
    has_classes = True
    uses = LabelledKind.uses | CLASSES_USE

    def check(self, cfg: DictConfig, labels: Sequence[str] | None = None) -> None:
        super().check(cfg, labels)
        if cfg.method.get("standardize") and len(labels or cfg.task.labels or []) == 2:
            raise UserError(
                "method.standardize=true: two logits of mean 0 and standard deviation 1 are +1 and −1 whatever was "
                "predicted, so distillation would have no gradient. It takes three classes or more."
            )

    def check_task(self, task: DictConfig) -> None:
        super().check_task(task)
        require_group(task)

    def check_data(self, data: TaskData) -> None:
        require_two_classes(data.metrics, len(data.label_names), data.label_names)
        beside = (split for split in (data.selection, data.test) if split is not None)
        for split in (*data.validation, *beside):
            if "auroc" in data.metrics and len(set(split.labels.tolist())) < 2:
                only = data.label_names[int(split.labels[0])]
                raise UserError(
                    f"task.metrics: auroc asks whether one class is told from another, and {split.name} of {data.name} "
                    f"holds '{only}' alone."
                )
        if data.settings.class_weights is not None:
            from selfdistill_cli.tasks.weights import by_class

            by_class(data.settings.class_weights, data.label_names, data.train.labels)

    def head(self, label_names: Sequence[str]) -> dict[str, Any]:
        return {
            "id2label": dict(enumerate(label_names)),
            "label2id": {name: number for number, name in enumerate(label_names)},
            "problem_type": "single_label_classification",
        }

    def losses(self, task: TaskData, model: Any) -> ClassificationLosses:
        from selfdistill_cli.losses.labelled import ClassificationLosses

        return ClassificationLosses()

    def shown(self, task: TaskData, logits: Any) -> dict[str, Sequence[Any]]:
        """The likeliest class, and the probability of each."""
        probabilities = logits.double().softmax(-1).numpy().round(6)
        names = task.label_names
        columns: dict[str, Sequence[Any]] = {"prediction": [names[number] for number in logits.argmax(-1).tolist()]}
        return columns | {f"probability_{name}": probabilities[:, i].tolist() for i, name in enumerate(names)}

    def require_common_labels(self, data: TaskData, trained: TaskData) -> None:
        _common_labels(data, trained)

    def on_labels_of(
        self, data: TaskData, examples: Sequence[Any], trained: TaskData
    ) -> tuple[TaskData, Sequence[Examples]]:
        """The finer side's classes are put together by its `label_map`; log-probabilities of the model's are added up."""
        from selfdistill_cli.evaluation.label_maps import RegroupedExamples

        gold, classes, names = _common_labels(data, trained)
        splits = [replace(split, labels=gold[split.labels]) for split in data.validation]
        regrouped = [
            RegroupedExamples(one, split.labels, classes, len(names))
            for one, split in zip(examples, splits, strict=True)
        ]
        return replace(data, label_names=names, validation=splits), regrouped


def _common_labels(data: TaskData, trained: TaskData) -> tuple[Any, Any, list[str]]:
    """See `evaluation.label_maps.common_labels`."""
    from selfdistill_cli.evaluation.label_maps import common_labels

    return common_labels(data.label_names, data.settings.label_map, trained.label_names, trained.settings.label_map)
