"""Prompts and answers as token numbers, and a language model's predictions at the answer tokens."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from selfdistill_cli.encoding.chat import as_chat
from selfdistill_cli.encoding.labelled import flat_tokens, offsets_of
from selfdistill_cli.encoding.token_store import unchanged
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.masks import padding_known
from selfdistill_cli.models.output_layer import catch_inputs

log = logging.getLogger(__name__)

MOST_CUT = 0.05
"""The share of answers that may be cut off before it is an error."""


@dataclass(frozen=True)
class Form:
    """How a model takes prompt and answer."""

    padding_token: int
    decoder_start: int | None
    """The first token of an encoder–decoder's decoder; None: a decoder, which reads prompt and answer in one row."""
    chat: bool = False
    """Whether prompt and answer are turns of a conversation in the tokenizer's own format."""

    @classmethod
    def of(cls, model: Any, tokenizer: Any, chat: bool = False) -> Form:
        """How this model does. Raises `UserError` if its tokenizer lacks what that takes."""
        if tokenizer.eos_token_id is None:
            raise UserError("This model's tokenizer has no end of sequence, so no answer would ever end.")
        if tokenizer.pad_token_id is None:
            raise UserError("This model's tokenizer has no padding token, so examples cannot be put into batches.")
        if not model.config.is_encoder_decoder:
            return cls(tokenizer.pad_token_id, None, chat)
        start = getattr(model.config, "decoder_start_token_id", None)
        if start is None:
            start = model.generation_config.decoder_start_token_id
        if start is None:
            raise UserError("This encoder–decoder does not say what its decoder starts with (decoder_start_token_id).")
        return cls(tokenizer.pad_token_id, start, chat)


@dataclass(frozen=True)
class Flat:
    """Rows of token numbers of different lengths in one array: row i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: np.ndarray
    offsets: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row [N]."""
        return np.diff(self.offsets)

    def row(self, number: int) -> np.ndarray:
        """The tokens of one row."""
        return self.tokens[self.offsets[number] : self.offsets[number + 1]]


class AnswerBatch(NamedTuple):
    """Some examples as a model takes them."""

    arguments: dict[str, Tensor]
    """Of the model's forward pass."""
    predicts: Tensor
    """Where answer tokens are predicted, as places in [m · L] [T]."""
    labels: Tensor
    """These tokens [T]."""
    lengths: Tensor
    """How many each example has [m]."""


@dataclass(frozen=True)
class AnswerExamples:
    """Encoded prompts and answers of one split. Only answer tokens are predicted."""

    prompts: Flat
    answers: Flat
    """With the end of sequence, unless they were cut."""
    form: Form
    truncated: int
    """How many prompts and answers were cut."""
    uncut: int = 0
    """Tokens of the longest example before it was cut; of an encoder–decoder, of its longer row."""
    weights: np.ndarray | None = None
    """How much each counts in training [N], float32 of mean 1."""

    def __len__(self) -> int:
        return len(self.answers.lengths)

    @property
    def labels(self) -> None:
        """None: gold labels are answer tokens, and stand beside the predictions."""
        return None

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, prompt and answer [N]."""
        return self.prompts.lengths + self.answers.lengths

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return int(self.lengths.max())

    @cached_property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return int(self.prompts.lengths.max())

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was made of the texts."""
        return {
            "prompts": self.prompts.tokens,
            "prompts_offsets": self.prompts.offsets,
            "answers": self.answers.tokens,
            "answers_offsets": self.answers.offsets,
        }

    def digest(self) -> str:
        """SHA-256 of the token numbers and their partition into examples."""
        sha = hashlib.sha256()
        for part in self.arrays().values():
            sha.update(part.data)
        return sha.hexdigest()

    def collate(self, rows: np.ndarray, width_multiple: int = 1) -> AnswerBatch:
        """These examples as a model takes them.

        Widths are multiples of `width_multiple`, but never above the longest row of the split.
        """
        decoder = self.form.decoder_start is None
        widest = self.longest if decoder else self.longest_prompt
        answers = [self.answers.row(i) for i in rows]
        labels = torch.from_numpy(np.concatenate(answers).astype(np.int64))
        if decoder:
            whole = [
                np.concatenate([self.prompts.row(i), answer[:-1]]) for i, answer in zip(rows, answers, strict=True)
            ]
            inputs, real = self._padded(whole, "right", width_multiple, widest)
            # Token t is predicted at the place of token t − 1; so a row lacks its last token, which predicts nothing.
            place = real.cumsum(1) - 1
            predicts = real.astype(bool) & (place >= (self.prompts.lengths[rows] - 1)[:, None])
            arguments = {"input_ids": inputs, "attention_mask": real}
        else:
            inputs, real = self._padded([self.prompts.row(i) for i in rows], "right", width_multiple, widest)
            start = np.array([self.form.decoder_start])
            decoder_inputs, answered = self._padded([np.concatenate([start, a[:-1]]) for a in answers], "right")
            predicts = answered.astype(bool)
            arguments = {"input_ids": inputs, "attention_mask": real, "decoder_input_ids": decoder_inputs}
        return AnswerBatch(
            {name: torch.from_numpy(array) for name, array in arguments.items()},
            torch.from_numpy(np.flatnonzero(predicts)),
            labels,
            torch.from_numpy(self.answers.lengths[rows]),
        )

    def collate_prompts(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Inputs to go on from: prompts of these examples, padded on the left [m, L]."""
        inputs, real = self._padded([self.prompts.row(i) for i in rows], "left")
        return {"input_ids": torch.from_numpy(inputs), "attention_mask": torch.from_numpy(real)}

    def forward(self, model: nn.Module, batch: AnswerBatch, device: torch.device) -> TokenRows:
        """Predictions at the answer tokens of collated examples: `labels`, and `input<j>` of the output layer."""
        arguments = {name: on_device(tensor, device) for name, tensor in batch.arguments.items()}
        with padding_known(batch.arguments["attention_mask"], device):
            caught = catch_inputs(model, **arguments)
        where = on_device(batch.predicts, device)
        columns = {"labels": on_device(batch.labels, device)}
        columns |= {f"input{j}": inputs.flatten(0, 1)[where] for j, inputs in enumerate(caught)}
        return TokenRows(batch.lengths, columns)

    def _padded(
        self, rows: list[np.ndarray], side: str, width_multiple: int = 1, widest: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token numbers and their mask, int64 [m, longest] each, or a little wider but not above `widest`."""
        longest = max(map(len, rows))
        longest = max(longest, min(-(-longest // width_multiple) * width_multiple, widest))
        tokens = np.full((len(rows), longest), self.form.padding_token, dtype=np.int64)
        real = np.zeros((len(rows), longest), dtype=np.int64)
        for number, row in enumerate(rows):
            place = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
            tokens[number, place] = row
            real[number, place] = 1
        return tokens, real


def encode_answers(
    tokenizer: Any, form: Form, rows: tuple[list[str], list[str]], settings: DictConfig, what: str
) -> AnswerExamples:
    """Tokenize prompts and answers (`rows`). `task.max_length` (`settings`: cfg.task) counts the tokens of a decoder's row, or
    of an encoder–decoder's two rows each.

    A prompt that leaves no room for an answer is an error, or loses its beginning (`long_prompts=cut`). An answer
    that is too long loses its end, and with it the end of sequence. Raises `UserError` if that happens to more than
    5 % of the examples, or an answer has no tokens. `what` names the split in messages.
    """
    decoder = form.decoder_start is None
    prompts, answers = as_chat(tokenizer, *rows) if form.chat else rows
    max_length = settings.max_length
    with unchanged(tokenizer):
        answer_ids = tokenizer(answers, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    end = tokenizer.eos_token_id
    for row, answer in enumerate(answer_ids):
        if not answer:
            raise UserError(f"{what}, row {row}: the answer has no tokens, so there is nothing to learn from it.")
    prompt_ids, cut_prompts, prompt_lengths = _prompt_tokens(tokenizer, form, prompts, settings, what)
    lengths = [(prompt, len(answer) + 1) for prompt, answer in zip(prompt_lengths, answer_ids, strict=True)]
    uncut = max(sum(pair) if decoder else max(pair) for pair in lengths)
    cut_answers = 0
    for row, answer in enumerate(answer_ids):
        room = max_length - len(prompt_ids[row]) if decoder else max_length
        whole = [*answer, end]
        answer_ids[row] = whole[:room]
        cut_answers += len(whole) > room
    if cut_answers > MOST_CUT * len(answers):
        raise UserError(
            f"{what}: {cut_answers:,} of {len(answers):,} answers do not fit into task.max_length={max_length} tokens "
            f"and would lose their end (at most {MOST_CUT:.0%} may). Give a larger task.max_length, or a shorter prompt."
        )
    if cut_answers:
        log.warning(
            "%s: %d of %d answers are cut off at task.max_length=%d tokens and lack their end",
            what, cut_answers, len(answers), max_length,
        )  # fmt: skip
    return AnswerExamples(_flat(prompt_ids), _flat(answer_ids), form, cut_prompts + cut_answers, uncut)


def encode_prompts(tokenizer: Any, form: Form, prompts: list[str], settings: DictConfig, what: str) -> AnswerExamples:
    """Tokenize prompts whose answers are to be written, as `encode_answers` does; each answer is its end alone.

    Raises `UserError` as it does.
    """
    asked = as_chat(tokenizer, prompts)[0] if form.chat else prompts
    prompt_ids, cut, _ = _prompt_tokens(tokenizer, form, asked, settings, what)
    return AnswerExamples(_flat(prompt_ids), _flat([[tokenizer.eos_token_id]] * len(prompts)), form, cut)


def _prompt_tokens(
    tokenizer: Any, form: Form, prompts: list[str], settings: DictConfig, what: str
) -> tuple[list[list[int]], int, list[int]]:
    """Prompts in tokens, such that an answer has room, how many were cut for it, and how long each was before."""
    decoder, end = form.decoder_start is None, tokenizer.eos_token_id
    with unchanged(tokenizer):
        # A chat format writes its special tokens itself.
        prompt_ids = tokenizer(prompts, add_special_tokens=not form.chat, return_attention_mask=False)["input_ids"]
    if decoder:  # a tokenizer that closes a text would close the prompt before its answer
        prompt_ids = [ids[:-1] if ids and ids[-1] == end else ids for ids in prompt_ids]
    for row, prompt in enumerate(prompt_ids):
        if not prompt:
            raise UserError(f"{what}, row {row}: the prompt has no tokens, so there is nothing to answer.")
    longest = settings.max_length - 1 if decoder else settings.max_length
    lengths = list(map(len, prompt_ids))
    return prompt_ids, _fit_prompts(prompt_ids, longest, settings, what), lengths


def _fit_prompts(prompts: list[list[int]], longest: int, settings: DictConfig, what: str) -> int:
    """Cut prompts to `longest` tokens, in place, if that is allowed. Returns how many were cut."""
    too_long = [row for row, prompt in enumerate(prompts) if len(prompt) > longest]
    if too_long and settings.long_prompts == "error":
        row = too_long[0]
        raise UserError(
            f"{what}: {len(too_long):,} of {len(prompts):,} prompts leave no room for an answer in "
            f"task.max_length={settings.max_length} tokens (the first in row {row}: {len(prompts[row])} tokens; the longest: "
            f"{max(map(len, prompts))}). Give a larger task.max_length, or task.long_prompts=cut to drop their beginning."
        )
    for row in too_long:
        prompts[row] = prompts[row][-longest:]
    return len(too_long)


def _flat(rows: list[list[int]]) -> Flat:
    offsets = offsets_of(rows)
    return Flat(flat_tokens(rows, np.int32, int(offsets[-1])), offsets)
