"""Texts that a model writes after prompts, in batches sorted by length, with a cache of keys and values."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from selfdistill_cli.encoding.answers import AnswerExamples, Form
from selfdistill_cli.encoding.chat import opening
from selfdistill_cli.engine.batching import Batching, prediction_batches
from selfdistill_cli.engine.compute import counting
from selfdistill_cli.engine.device import widest
from selfdistill_cli.engine.processes import gathered
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.engine.sharding import release_output
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.cpu.products import weights_rounded
from selfdistill_cli.system.fault_points import passing
from selfdistill_cli.system.words import counted

OF_DRAWING = ("top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
OF_BEAMS = ("early_stopping", "length_penalty")
"""Settings of a model's own that act where tokens are drawn, and where there are beams."""
CACHE_BYTES = 2**30
"""What the keys and values of a batch may take, beyond what the token budget allows anyway."""


def require_room(examples: AnswerExamples, config: Any, decoding: DictConfig, what: str) -> None:
    """Raise `UserError` if a decoder's context is too short for its prompts and what is to be written after them."""
    context = getattr(config, "max_position_embeddings", None)
    if examples.form.decoder_start is not None or context is None:
        return
    longest = int(examples.prompts.lengths.max())
    if longest + decoding.max_new_tokens > context:
        raise UserError(
            f"{what}: the longest prompt has {counted(longest, 'token')}, and task.decoding.max_new_tokens="
            f"{decoding.max_new_tokens} more do not fit into this model's context of {context}. Give fewer new tokens, "
            "or a smaller task.max_length with task.long_prompts=cut."
        )


def generation_settings(tokenizer: Any, form: Form, decoding: DictConfig) -> dict[str, Any]:
    """`task.decoding` and the tokens that end and fill a text, as transformers' generation configuration names them."""
    return {
        "max_new_tokens": decoding.max_new_tokens,
        "min_length": 0,  # a base model's own, which transformers takes where nothing is said, is not a task's
        "num_beams": decoding.num_beams,
        "do_sample": decoding.temperature > 0,
        "temperature": decoding.temperature or None,
        **({"top_k": 0, "top_p": 1.0} if decoding.temperature > 0 else {}),  # of all tokens
        "pad_token_id": form.padding_token,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": form.decoder_start,
        "use_cache": True,
    }


def keep_generation_settings(model: Any, tokenizer: Any, decoding: DictConfig) -> None:
    """Set on the model how its answers were scored, so that whoever loads it gets the same without saying so.

    A length of the base model's own (T5 stops at 20 tokens) would end answers early, and what only drawing or only beams
    read would be refused where there are none, when the model is saved.
    """
    unread = [*OF_DRAWING, *(OF_BEAMS if decoding.num_beams == 1 else ())]
    settings = generation_settings(tokenizer, Form.of(model, tokenizer), decoding)
    model.generation_config.update(max_length=None, **dict.fromkeys(unread) | settings)


@dataclass(frozen=True)
class Written:
    """What a model has written after N prompts."""

    texts: list[str]
    tokens: list[list[int]]
    """Of each, up to its end of sequence, which is not among them, and with what a chat format begins answers with."""
    ended: list[bool]
    """Whether it came to its end; else it was cut at `task.decoding.max_new_tokens`."""


@dataclass(frozen=True)
class Chances:
    """Random numbers by which tokens are drawn, of each example its own."""

    numbers: np.ndarray
    """Uniform in [0, 1) [N, task.decoding.max_new_tokens]."""
    temperature: float
    """Above 0: tokens are drawn from softmax(z / temperature), the whole of it."""

    @classmethod
    def seeded(cls, examples: int, decoding: DictConfig, seed: int) -> Chances:
        """For so many examples, whatever the batches that they are written in."""
        numbers = np.random.default_rng(seed).random((examples, decoding.max_new_tokens))
        return cls(numbers, decoding.temperature)


class _ByChance(LogitsProcessor):
    """Leaves of each row's next-token scores [m, V] the one that its random number falls on, so that greedy search takes it.

    Probabilities are added up as whole numbers: exactly, and on a card in no order that matters.
    """

    def __init__(self, numbers: np.ndarray, temperature: float) -> None:
        """numbers [m, max_new_tokens]."""
        self.numbers = torch.from_numpy(numbers)
        self.temperature = temperature
        self.place = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wide = widest(scores.device)
        unit = 2**20 if wide == torch.float32 else 2**48
        shifted = scores.to(wide) - scores.amax(-1, keepdim=True)  # so that no temperature is too low
        heights = (shifted / self.temperature).softmax(-1).mul_(unit).round_().long().cumsum(-1)
        self.numbers = self.numbers.to(scores.device, wide)
        number = self.numbers[:, self.place, None]
        self.place += 1
        total = heights[:, -1:]
        chosen = torch.searchsorted(heights, torch.minimum((number * total).long(), total - 1), right=True)
        others = torch.arange(scores.shape[-1], device=scores.device) != chosen
        return torch.zeros_like(scores).masked_fill(others, -torch.inf)


@contextlib.contextmanager
def _without_preferences(writer: Any) -> Iterator[None]:
    """While this lasts, the model's own generation settings, such as a penalty on repetition, do nothing."""
    model = writer.get_base_model() if hasattr(writer, "get_base_model") else writer
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


@torch.no_grad()
def write_answers(
    model: nn.Module,
    tokenizer: Any,
    examples: AnswerExamples,
    decoding: DictConfig,
    runtime: Runtime,
    seed: int,
    chances: Chances | None = None,
) -> Written:
    """What the model writes after each prompt, dropout off, up to its end of sequence.

    Always the same texts, whatever the batches: greedy or by beams, or, with a temperature, drawn by the random numbers
    of each example, which are seeded by `seed` or given (`chances`). Beams that are drawn follow the seed and the batch.
    With given chances the model's own preferences (a penalty on repetition) do nothing. Several processes share the
    work; each gets all texts.
    """
    began = time.monotonic()
    writer = runtime.unwrap(model)
    was_training = writer.training
    writer.eval()
    release_output(writer)
    preferences = contextlib.nullcontext() if chances is None else _without_preferences(writer)
    if chances is None and decoding.temperature > 0 and decoding.num_beams == 1:
        chances = Chances.seeded(len(examples), decoding, seed)
    # LoRA's wrapper has its inner model write, which does not come by the forward pass that Accelerate prepared.
    with runtime.accelerator.autocast(), _products_of(writer, runtime), preferences:
        own = _own_share(writer, tokenizer, examples, decoding, runtime, seed, chances)
    writer.train(was_training)
    everyones = gathered(own)
    found = _in_order(len(examples), [piece for process, _ in everyones for piece in process])
    new = sum(map(len, found.tokens)) + sum(found.ended)
    prompts = int(examples.prompts.lengths.sum())
    runtime.compute.wrote(len(examples), prompts, new, [of_one for _, of_one in everyones])
    runtime.compute.timed_writing(len(examples), new, time.monotonic() - began)
    return found


def _products_of(writer: nn.Module, runtime: Runtime) -> contextlib.AbstractContextManager[None]:
    """How the model multiplies while it writes: the same products, on a processor with weights that are rounded once."""
    rounds = runtime.device.type == "cpu" and runtime.precision == "bf16" and not runtime.shards
    return weights_rounded(writer, torch.bfloat16) if rounds else contextlib.nullcontext()


def batching_of_writing(config: Any, batching: Batching, beams: int = 1) -> Batching:
    """Under which a model of this configuration writes: up to four times the budget of other predictions.

    A batch takes as many passes as its longest answer has tokens, however few rows it has. What stays in memory of a token
    is its keys and values, so the budget stretches until these would take `CACHE_BYTES`. A model that does not say how
    large they are keeps the budget of other predictions.
    """
    text = config.get_text_config(decoder=True)
    asking = getattr(text, "num_attention_heads", None)
    if not asking:
        return batching
    heads = getattr(text, "num_key_value_heads", None) or asking
    size = getattr(text, "head_dim", None) or text.hidden_size // asking
    of_a_token = 2 * text.num_hidden_layers * heads * size * torch.float32.itemsize * beams
    fitting = CACHE_BYTES // of_a_token // 2  # predictions stretch the budget twice as far
    return replace(batching, token_budget=max(batching.token_budget, min(4 * batching.token_budget, fitting)))


def _own_share(
    writer: Any,
    tokenizer: Any,
    examples: AnswerExamples,
    decoding: DictConfig,
    runtime: Runtime,
    seed: int,
    chances: Chances | None,
) -> tuple[list[tuple[np.ndarray, Written]], tuple[int, int]]:
    """What this process writes, by batch, and the operations and tokens of the batch that was counted."""
    how_told = decoding.copy()
    if chances is not None:
        how_told.temperature = 0.0  # greedy, among what chance leaves
    settings = GenerationConfig(**generation_settings(tokenizer, examples.form, how_told))
    batching = batching_of_writing(writer.config, runtime.batching, decoding.num_beams)
    parts = prediction_batches(examples.prompts.lengths + decoding.max_new_tokens, batching)
    own: list[tuple[np.ndarray, Written]] = []
    counted, begun = (0, 0), opening(tokenizer) if examples.form.chat else ""
    for number, rows in runtime.own_share(parts):
        passing("generation")
        inputs = {name: t.to(runtime.device) for name, t in examples.collate_prompts(rows).items()}
        counts = runtime.compute.counts_writing and number == len(parts) // 2
        with torch.random.fork_rng(enabled=settings.do_sample), counting(counts) as counter:
            if settings.do_sample:
                torch.manual_seed(seed + number)
            how: dict[str, Any] = {"generation_config": settings, "synced_gpus": runtime.shards}
            if chances is None:
                written = writer.generate(**inputs, **how)
            else:
                by_chance = LogitsProcessorList([_ByChance(chances.numbers[rows], chances.temperature)])
                written = writer.generate(**inputs, **how, logits_processor=by_chance)
        if number >= len(parts):
            continue
        before = inputs["input_ids"].shape[1] if examples.form.decoder_start is None else 1
        written = written[:, before:]
        if counter is not None:
            counted = counter.get_total_flops(), inputs["input_ids"].numel() + written.numel()
        own.append((rows, _read(written.tolist(), tokenizer, begun)))
        runtime.on_predicted(len(rows))
    return own, counted


def _read(written: list[list[int]], tokenizer: Any, begun: str) -> Written:
    """Rows of new tokens, as `generate` gives them: up to their end, if they have one, and padding after it.

    begun: what the chat format begins every answer with, which is no part of a text.
    """
    end = tokenizer.eos_token_id
    tokens = [row[: row.index(end)] if end in row else row for row in written]
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    if begun:
        texts = [text.strip().removeprefix(begun).strip() if text.strip().startswith(begun) else text for text in texts]
    return Written(texts, tokens, [end in row for row in written])


def _in_order(examples: int, pieces: list[tuple[np.ndarray, Written]]) -> Written:
    """Answers of some examples, written in parts, in the order of the examples."""
    place = np.empty(examples, dtype=np.int64)
    place[np.concatenate([rows for rows, _ in pieces])] = np.arange(examples)
    texts, tokens, ended = ([], [], [])  # type: tuple[list[str], list[list[int]], list[bool]]
    for _, piece in pieces:
        texts += piece.texts
        tokens += piece.tokens
        ended += piece.ended
    return Written([texts[i] for i in place], [tokens[i] for i in place], [ended[i] for i in place])
