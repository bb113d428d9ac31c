"""Generation: a model writes an answer after a prompt, and the answer read off it is scored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.answers import AnswerKind
from selfdistill_cli.kinds.base import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from selfdistill_cli.engine.method import AnswerWriter
    from selfdistill_cli.engine.runtime import Runtime
    from selfdistill_cli.evaluation.base import Evaluator
    from selfdistill_cli.kinds.snippets import PromptForm
    from selfdistill_cli.models import LoadedModel
    from selfdistill_cli.tasks import Split, TaskData
    from selfdistill_cli.tasks.sources import RawSplit


class Generation(AnswerKind):
    """One learned answer an example, one or more acceptable ones."""

    name = "generation"
    metrics = ("exact_match", "f1", "rouge1", "rouge2", "rougeL")
    default_metrics = ("exact_match",)
    required = ("answer",)
    writes = True
    uses = AnswerKind.uses | {"answer", "references", "answer_rule", "chat_template", "added", "decoding"}

    def read(self, settings: DictConfig, splits: Sequence[RawSplit]) -> Recipe:
        from selfdistill_cli.evaluation.answer_rules import RULES
        from selfdistill_cli.tasks.rows import prompted_split, require_readable_answers

        for raw in splits:
            require_readable_answers(settings, RULES[settings.answer_rule], raw)
        return [], partial(prompted_split, settings)

    def in_chat_format(self, settings: DictConfig, tokenizer: Any) -> bool:
        from selfdistill_cli.encoding.chat import has_chat_format

        return bool(settings.get("chat_template", "off") == "auto" and has_chat_format(tokenizer))

    def encode(self, task: TaskData, loaded: LoadedModel, split: Split) -> Any:
        from selfdistill_cli.evaluation.decoding import require_room

        examples = super().encode(task, loaded, split)
        if split.role != "train":
            require_room(examples, loaded.model.config, task.settings.decoding, f"{task.name}, {split.name}")
        return examples

    def evaluator(
        self, task: TaskData, loaded: LoadedModel, validation: Sequence[Any], losses: Any, runtime: Runtime, seed: int
    ) -> Evaluator:
        from selfdistill_cli.evaluation.answers import GenerationEvaluator

        return GenerationEvaluator(task, loaded.tokenizer, validation, losses, runtime, seed)

    def answer_writer(
        self, task: TaskData, loaded: LoadedModel, train: Any, runtime: Runtime, seed: int
    ) -> AnswerWriter:
        from selfdistill_cli.evaluation.drawing import TrainingAnswers

        texts = self.rows(task.train)
        writer = TrainingAnswers(loaded.model, loaded.tokenizer, train, texts, task.settings, runtime, seed)
        writer.require_room()
        return writer

    def require_same_reading(
        self, task: TaskData, teacher: LoadedModel, student: LoadedModel, train: Any, folder: Path
    ) -> None:
        from selfdistill_cli.evaluation.decoding import require_room
        from selfdistill_cli.models.output_layer import output_layer

        theirs = self.encode(task, teacher, task.train)
        entries = [len(output_layer(of.model).weights[0]) for of in (teacher, student)]  # type: ignore[arg-type]
        if theirs.form != train.form or theirs.digest() != train.digest() or entries[0] != entries[1]:
            raise UserError(
                f"The teacher in {folder} reads or writes the training examples in other tokens than the student (a prompt "
                f"format, special tokens, an encoder, or {entries[0]:,} outputs for {entries[1]:,}), so nothing can be "
                "compared token by token. Choose a teacher of the same kind and tokenizer."
            )
        require_room(train, teacher.model.config, task.settings.decoding, f"{task.name}, the teacher in {folder}")

    def before_saving(self, task: TaskData, loaded: LoadedModel, model: Any) -> None:
        from selfdistill_cli.evaluation.decoding import keep_generation_settings

        whole = model.get_base_model() if hasattr(model, "get_base_model") else model
        keep_generation_settings(whole, loaded.tokenizer, task.settings.decoding)

    def call_of(self, settings: DictConfig, config: Any, adapter: bool, form: PromptForm) -> str:
        from selfdistill_cli.kinds.snippets import generation

        return generation(settings, config, adapter, form)

    def predicted(
        self, task: TaskData, loaded: LoadedModel, split: Split, runtime: Runtime, seed: int
    ) -> dict[str, Sequence[Any]]:
        """The answer that the task's rule reads off what was written (null where it finds none), and the whole text."""
        from selfdistill_cli.encoding.answers import Form, encode_prompts
        from selfdistill_cli.evaluation.answer_rules import RULES
        from selfdistill_cli.evaluation.decoding import require_room, write_answers

        settings, what = task.settings, f"{task.name}, {split.name}"
        form = Form.of(loaded.model, loaded.tokenizer, self.in_chat_format(settings, loaded.tokenizer))
        examples = encode_prompts(loaded.tokenizer, form, list(split.texts), settings, what)
        require_room(examples, loaded.model.config, settings.decoding, what)
        texts = write_answers(loaded.model, loaded.tokenizer, examples, settings.decoding, runtime, seed).texts
        rule = RULES[settings.answer_rule]
        return {"prediction": [rule(text) for text in texts], "text": texts}
