"""What generation and multiple choice share: a language model learns answers to prompts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.base import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from selfdistill_cli.encoding.answers import AnswerExamples, Form
    from selfdistill_cli.kinds.snippets import PromptForm
    from selfdistill_cli.losses.answers import AnswerLosses
    from selfdistill_cli.models import LoadedModel
    from selfdistill_cli.tasks import Split, TaskData


class AnswerKind(Kind):
    """Predictions are values at the answer tokens of each example."""

    uses = frozenset({"long_prompts", "weight"})
    refuses_long = True
    diagnostics = ("gradients", "examples", "maps")
    model_words = "language model"
    pipeline_tag = "text-generation"

    def model_class(self, config: Any) -> Any:
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        )

        if config.is_encoder_decoder:
            return AutoModelForSeq2SeqLM
        decoder = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if not decoder or (config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_decoder):
            raise UserError(
                f"task.kind={self.name} needs a model that writes, and {config.model_type} is an encoder. Choose a "
                "decoder or an encoder–decoder: model=tiny_llama, tiny_t5, smollm2_135m, gpt2, t5_small …"
            )
        return AutoModelForCausalLM

    def lora_task_type(self, config: Any) -> str:
        return "SEQ_2_SEQ_LM" if config.is_encoder_decoder else "CAUSAL_LM"

    def hub_tag(self, config: Any) -> str:
        return "text2text-generation" if config.is_encoder_decoder else self.pipeline_tag

    def snippet(self, task: TaskData, loaded: LoadedModel, adapter: bool) -> str:
        from selfdistill_cli.kinds.snippets import PromptForm

        tokenizer = loaded.tokenizer
        form = PromptForm(
            closes=tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id,
            chat=self.in_chat_format(task.settings, tokenizer),
        )
        return self.call_of(task.settings, loaded.model.config, adapter, form)

    def call_of(self, settings: DictConfig, config: Any, adapter: bool, form: PromptForm) -> str:
        """The snippet."""
        raise NotImplementedError

    def require_suitable(self, model: Any, train: Any) -> None:
        from selfdistill_cli.models.output_layer import require_plain_output

        arguments = train.collate(train.lengths.argsort()[:1]).arguments
        device = next(model.parameters()).device
        require_plain_output(model, {name: tensor.to(device) for name, tensor in arguments.items()})

    def encode(self, task: TaskData, loaded: LoadedModel, split: Split) -> Any:
        from selfdistill_cli.encoding.answers import Form
        from selfdistill_cli.encoding.kept_answers import kept_examples

        settings = task.settings
        context = getattr(loaded.model.config, "max_position_embeddings", None) or settings.max_length
        if settings.max_length > context:
            raise UserError(f"task.max_length={settings.max_length}: this model takes at most {context} tokens.")
        form = Form.of(loaded.model, loaded.tokenizer, self.in_chat_format(settings, loaded.tokenizer))
        make = partial(self.in_tokens, loaded.tokenizer, form, split, settings, f"{task.name}, {split.name}")
        return kept_examples((split.folder, loaded.tokenizer), form, settings, self.name, make)

    def in_tokens(self, tokenizer: Any, form: Form, split: Split, settings: DictConfig, what: str) -> AnswerExamples:
        """The split's prompts and answers. `what` names it in messages."""
        from selfdistill_cli.encoding.answers import encode_answers

        return encode_answers(tokenizer, form, self.rows(split), settings, what, self.numbers(split))

    def in_chat_format(self, settings: DictConfig, tokenizer: Any) -> bool:
        """Whether prompts and answers are turns of a conversation. Choices are scored as they stand behind a text."""
        return False

    def rows(self, split: Split) -> tuple[list[str], list[str]]:
        """Prompts and answers that are encoded."""
        return list(split.texts), list(split.answers or [])

    def numbers(self, split: Split) -> list[int]:
        """Their rows in the source."""
        return [int(row) for row in split.rows]

    def losses(self, task: TaskData, model: Any) -> AnswerLosses:
        """They read the model's output layer as it is at each time."""
        from selfdistill_cli.losses.answers import AnswerLosses
        from selfdistill_cli.models.output_layer import output_layer

        return AnswerLosses(partial(output_layer, model))

    def require_same_outputs(self, task: TaskData, teacher: LoadedModel, student: LoadedModel, folder: Path) -> None:
        theirs, ours = teacher.tokenizer, student.tokenizer
        if ours.get_vocab() != theirs.get_vocab():
            raise UserError(
                f"The teacher in {folder} has another vocabulary ({len(theirs):,} entries) than the student "
                f"({len(ours):,}): token by token there is nothing to compare. Choose a teacher of the same tokenizer."
            )

    def kept_of_teacher(self, losses: Any, method: DictConfig) -> tuple[str, Callable[[Any], Any]]:
        top_k = method.teacher.top_k
        if method.get("standardize"):  # mean and standard deviation are those of the whole vocabulary: before it is cut
            kept = partial(losses.top_entries, k=top_k, standardized_at=method.tau)
            return f"top {top_k} of z-scores at {method.tau:g}", kept
        return f"top {top_k}", partial(losses.top_entries, k=top_k)
