"""What differs between kinds of task: how a split is encoded, which terms a method gets, how a model is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from omegaconf import DictConfig

from selfdistill_cli.encoding.answers import Form, encode_answers
from selfdistill_cli.encoding.labelled import encode
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.answers import ChoosingEvaluator, Setting, WritingEvaluator
from selfdistill_cli.evaluation.decoding import require_room
from selfdistill_cli.evaluation.labelled import Evaluator, LabelEvaluator
from selfdistill_cli.losses.answers import TokenTerms
from selfdistill_cli.losses.labelled import ClassificationTerms, RegressionTerms, Terms
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.models.output_layer import output_layer, require_plain_output
from selfdistill_cli.tasks import Split, TaskData


def encode_split(task_cfg: DictConfig, task: TaskData, model: Any, tokenizer: Any, split: Split) -> Any:
    """The split in tokens: `Examples`, or `AnswerExamples` for a language model."""
    if not task.is_language_modeling:
        return encode(tokenizer, split.texts, split.pairs, split.labels, task_cfg.max_length, split.folder)
    context = getattr(model.config, "max_position_embeddings", None) or task_cfg.max_length
    if task_cfg.max_length > context:
        raise UserError(f"task.max_length={task_cfg.max_length}: this model takes at most {context} tokens.")
    prompts, answers = list(split.texts), list(split.answers or [])
    if split.choices is not None and split is not task.train:  # every choice is scored, the right one is learned
        prompts = [text for text, choices in zip(split.texts, split.choices, strict=True) for _ in choices]
        answers = [choice for choices in split.choices for choice in choices]
    what = f"{task.name}, {split.name}"
    form = _form(model, tokenizer)
    examples = encode_answers(tokenizer, form, prompts, answers, task_cfg.max_length, task_cfg.long_prompts, what)
    if task.kind == "generation" and split is not task.train:
        require_room(examples, model.config, task_cfg.decoding, what)
    return examples


def _form(model: Any, tokenizer: Any) -> Form:
    if tokenizer.eos_token_id is None:
        raise UserError("This model's tokenizer has no end of sequence, so no answer would ever end.")
    if tokenizer.pad_token_id is None:
        raise UserError("This model's tokenizer has no padding token, so examples cannot be put into batches.")
    if not model.config.is_encoder_decoder:
        return Form(tokenizer.pad_token_id, "right", None)
    start = getattr(model.config, "decoder_start_token_id", None)
    if start is None:
        start = model.generation_config.decoder_start_token_id
    if start is None:
        raise UserError("This encoder–decoder does not say what its decoder starts with (decoder_start_token_id).")
    return Form(tokenizer.pad_token_id, "right", start)


def make_terms(task: TaskData, model: Any) -> Terms:
    """The terms of this kind of task; those of a language model read its output layer as it is at each time."""
    if task.is_language_modeling:
        return TokenTerms(lambda: output_layer(model))
    return RegressionTerms(task.label_range) if task.kind == "regression" else ClassificationTerms()


def make_evaluator(
    cfg: DictConfig,
    task: TaskData,
    loaded: LoadedModel,
    validation: Sequence[Any],
    terms: Terms,
    batching: Batching,
    accelerator: Accelerator,
) -> Evaluator:
    """What scores the model on the encoded validation splits."""
    if not task.is_language_modeling:
        return LabelEvaluator(task, list(validation), terms, batching, accelerator)
    setting = Setting(task, cfg.task, list(validation), terms, loaded.tokenizer, cfg.seed, batching, accelerator)
    return WritingEvaluator(setting) if task.kind == "generation" else ChoosingEvaluator(setting)


def require_suitable(task: TaskData, model: Any, train: Any) -> None:
    """Raise `UserError` if the losses do not fit what the model does with its logits."""
    if task.is_language_modeling:
        arguments = train.collate(train.lengths.argsort()[:1]).arguments
        device = next(model.parameters()).device
        require_plain_output(model, {name: tensor.to(device) for name, tensor in arguments.items()})
