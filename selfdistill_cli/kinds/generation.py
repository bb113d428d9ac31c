"""Generation: a model writes an answer after a prompt, and the answer read off it is scored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.config.methods import draws_answers
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.answers import AnswerKind
from selfdistill_cli.kinds.base import Recipe
from selfdistill_cli.kinds.settings import text_beside_messages

if TYPE_CHECKING:
    from pathlib import Path

    from selfdistill_cli.encoding.answers import AnswerExamples, Form
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
    writes = True
    uses = AnswerKind.uses | {"answer", "references", "no_answer", "messages", "turns"}
    uses |= {"answer_rule", "chat_template", "added", "decoding"}

    def check(self, cfg: DictConfig, labels: Sequence[str] | None = None) -> None:
        super().check(cfg, labels)
        task = cfg.task
        if task.messages is None:
            if task.turns != "all":
                raise UserError(f"task.turns={task.turns} is of conversations: it needs task.messages, their column.")
            return
        if task.text != task.messages:
            raise text_beside_messages(task.text, task.messages)
        if draws_answers(cfg.method):
            what = "method.outputs=sampled" if "outputs" in cfg.method else f"method={cfg.method.name}"
            raise UserError(
                f"{what} draws one answer to each prompt, and a conversation (task.messages) has several: take a method "
                "that learns from what is there."
            )

    def check_task(self, task: DictConfig) -> None:
        if task.answer is None and task.messages is None:
            raise UserError(
                "task.kind=generation needs task.answer: a column, or a template over columns; or task.messages, a "
                "column of conversations (task=chat)."
            )
        for name in ("answer", "references", "added") if task.messages is not None else ():
            if task[name] is not None:
                raise UserError(
                    f"task.{name}={task[name]} does not go with task.messages={task.messages}: what is learned are the "
                    "turns of the assistant. Leave one of them out."
                )
        super().check_task(task)

    def read(self, settings: DictConfig, splits: Sequence[RawSplit]) -> Recipe:
        from selfdistill_cli.evaluation.answer_rules import RULES
        from selfdistill_cli.tasks.chats import chat_split
        from selfdistill_cli.tasks.rows import (
            accepted_answers,
            prompted_split,
            require_readable_answers,
            require_rouge_words,
        )

        rule = RULES[settings.answer_rule]
        if settings.no_answer and rule(settings.no_answer) is None:
            raise UserError(
                f"task.no_answer={settings.no_answer!r} is learned where there is no answer, and would count as wrong: "
                f"task.answer_rule={settings.answer_rule} reads no answer in it. Take task.no_answer='' or another rule."
            )
        chats = settings.messages is not None
        for raw in splits:
            golds = chat_split(settings, raw).references if chats else accepted_answers(settings, raw)
            require_readable_answers(settings, rule, raw, golds or [])
            require_rouge_words(settings, raw, golds or [])
        return [], partial(chat_split if chats else prompted_split, settings)

    def in_chat_format(self, settings: DictConfig, tokenizer: Any) -> bool:
        from selfdistill_cli.encoding.chat import has_chat_format

        if settings.get("messages"):
            return True
        return bool(settings.get("chat_template", "off") == "auto" and has_chat_format(tokenizer))

    def prepare_tokenizer(self, task: TaskData, tokenizer: Any) -> None:
        from selfdistill_cli.encoding.conversations import with_format

        if task.settings.get("messages"):
            with_format(tokenizer, own=task.settings.chat_template == "auto")

    def encode(self, task: TaskData, loaded: LoadedModel, split: Split) -> Any:
        from selfdistill_cli.evaluation.decoding import require_room

        self.prepare_tokenizer(task, loaded.tokenizer)  # the tokens depend on it, and so does the saved tokenizer
        examples = super().encode(task, loaded, split)
        if split.role != "train":
            require_room(examples, loaded.model.config, task.settings.decoding, f"{task.name}, {split.name}")
        return examples

    def in_tokens(self, tokenizer: Any, form: Form, split: Split, settings: DictConfig, what: str) -> AnswerExamples:
        from selfdistill_cli.encoding.answers import encode_conversations
        from selfdistill_cli.encoding.conversations import Conversations
        from selfdistill_cli.tasks.chats import up_to_last_answer

        if split.turns is None:
            return super().in_tokens(tokenizer, form, split, settings, what)
        if form.decoder_start is not None:
            raise UserError(
                "task.messages: in a conversation each answer stands behind everything that was said before, and an "
                "encoder–decoder reads no answers. Choose a decoder: model=tiny_llama, smollm2_135m, qwen2_5_0_5b …"
            )
        chats = Conversations(list(map(up_to_last_answer, split.turns)), split.rows.tolist())
        return encode_conversations(tokenizer, form, chats, settings, what)

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
        starts = [of.form.decoder_start for of in (theirs, train)]  # what rows are filled with is read by neither
        if starts[0] != starts[1] or theirs.digest() != train.digest() or entries[0] != entries[1]:
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

    def unlabelled(self, settings: DictConfig, raw: RawSplit) -> Split:
        from selfdistill_cli.tasks.chats import chats_to_answer

        return super().unlabelled(settings, raw) if settings.messages is None else chats_to_answer(settings, raw)

    def predicted(
        self, task: TaskData, loaded: LoadedModel, split: Split, runtime: Runtime, seed: int
    ) -> dict[str, Sequence[Any]]:
        """The answer that the task's rule reads off what was written (null where it finds none), and the whole text."""
        from selfdistill_cli.encoding.answers import Form, encode_prompts
        from selfdistill_cli.evaluation.answer_rules import RULES
        from selfdistill_cli.evaluation.decoding import require_room, write_answers
        from selfdistill_cli.tasks.findings import say_cut

        settings, what = task.settings, f"{task.name}, {split.name}"
        form = Form.of(loaded.model, loaded.tokenizer, self.in_chat_format(settings, loaded.tokenizer))
        asked = list(split.texts) if split.turns is None else list(split.turns)
        examples = encode_prompts(loaded.tokenizer, form, asked, settings, what, self.numbers(split))
        require_room(examples, loaded.model.config, settings.decoding, what)
        say_cut(what, settings, examples)
        texts = write_answers(loaded.model, loaded.tokenizer, examples, settings.decoding, runtime, seed).texts
        rule = RULES[settings.answer_rule]
        return {"prediction": [rule(text) for text in texts], "text": texts}
