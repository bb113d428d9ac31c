"""Multiple choice: the right answer is learned, and the likeliest of the offered ones is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.answers import AnswerKind
from selfdistill_cli.kinds.base import Recipe
from selfdistill_cli.kinds.labelled import OF_CLASSES
from selfdistill_cli.kinds.settings import OF_TWO_CLASSES, require_group, require_two_classes

if TYPE_CHECKING:
    from selfdistill_cli.engine.runtime import Runtime
    from selfdistill_cli.evaluation.base import Evaluator
    from selfdistill_cli.kinds.snippets import PromptForm
    from selfdistill_cli.models import LoadedModel
    from selfdistill_cli.tasks import Split, TaskData
    from selfdistill_cli.tasks.sources import RawSplit

OF_COLUMNS = re.compile(r"\[[^{}\[\]]+(,[^{}\[\]]+)+\]")
"""A list of names without braces."""


class MultipleChoice(AnswerKind):
    """The label says which of an example's choices is right."""

    name = "multiple_choice"
    metrics = tuple(metric for metric in OF_CLASSES if metric != "auroc")
    default_metrics = ("accuracy",)
    required = ("choices",)
    uses = AnswerKind.uses | {"choices", "label", "group"}

    def check_task(self, task: DictConfig) -> None:
        if task.choices is None:
            raise UserError(
                f"task.kind={self.name} needs task.choices: a column of lists, or a list of templates over columns, "
                '["{a}", "{b}"].'
            )
        super().check_task(task)
        require_group(task)
        if OF_COLUMNS.fullmatch(task.choices):
            columns = [column.strip(" '\"") for column in task.choices[1:-1].split(",")]
            templates = json.dumps([f"{{{column}}}" for column in columns], ensure_ascii=False)
            shown = templates.replace('"', '\\"')
            raise UserError(
                f"task.choices={task.choices}: choices that have a column each are a list of templates, {templates} "
                f"(typed behind sdrun: \"task.choices='{shown}'\")."
            )

    def check_data(self, data: TaskData) -> None:
        if not OF_TWO_CLASSES.keys() & set(data.metrics):
            return
        most = max((len(offered) for split in data.validation for offered in split.choices or ()), default=0)
        require_two_classes(data.metrics, most, [f"choice {number}" for number in range(most)])

    def read(self, settings: DictConfig, splits: Sequence[RawSplit]) -> Recipe:
        from selfdistill_cli.tasks.rows import choice_split

        return [], partial(choice_split, settings)

    def rows(self, split: Split) -> tuple[list[str], list[str]]:
        """Where choices are scored, every one of them; where they are learned, the right one."""
        if split.role == "train" or split.choices is None:
            return super().rows(split)
        prompts = [text for text, choices in zip(split.texts, split.choices, strict=True) for _ in choices]
        return prompts, [choice for choices in split.choices for choice in choices]

    def numbers(self, split: Split) -> list[int]:
        if split.role == "train" or split.choices is None:
            return super().numbers(split)
        return [int(row) for row, choices in zip(split.rows, split.choices, strict=True) for _ in choices]

    def evaluator(
        self, task: TaskData, loaded: LoadedModel, validation: Sequence[Any], losses: Any, runtime: Runtime, seed: int
    ) -> Evaluator:
        from selfdistill_cli.evaluation.answers import MultipleChoiceEvaluator

        return MultipleChoiceEvaluator(task, validation, losses, runtime)

    def unlabelled(self, settings: DictConfig, raw: RawSplit) -> Split:
        from selfdistill_cli.tasks.unlabelled import with_choices

        return with_choices(settings, raw)

    def call_of(self, settings: DictConfig, config: Any, adapter: bool, form: PromptForm) -> str:
        from selfdistill_cli.kinds.snippets import multiple_choice

        return multiple_choice(settings, config, adapter, form)

    def predicted(
        self, task: TaskData, loaded: LoadedModel, split: Split, runtime: Runtime, seed: int
    ) -> dict[str, Sequence[Any]]:
        """The number of the likeliest choice, the choice itself, and the mean log-likelihoods of all."""
        from selfdistill_cli.tasks.findings import say_cut

        assert split.choices is not None
        examples = self.encode(task, loaded, split)
        say_cut(f"{task.name}, {split.name}", task.settings, examples)
        evaluator = self.evaluator(task, loaded, [examples], self.losses(task, loaded.model), runtime, seed)
        table = evaluator.predictions(loaded.model)[0]
        numbers = table["prediction"].to_pylist()
        chosen = [choices[number].strip() for choices, number in zip(split.choices, numbers, strict=True)]
        return {"prediction": numbers, "choice": chosen, "log_likelihoods": table["logits"].to_pylist()}
