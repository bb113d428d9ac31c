"""Prompts and answers as token numbers, and a language model's predictions at the answer tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from selfdistill_cli.encoding.chat import Turns, as_chat
from selfdistill_cli.encoding.conversations import Conversations, conversation_tokens
from selfdistill_cli.encoding.room import Flat, Room, fit, fit_prompts
from selfdistill_cli.encoding.token_store import unchanged
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.concatenated import model_inputs, takes_concatenated
from selfdistill_cli.models.masks import padding_known
from selfdistill_cli.models.output_layer import catch_inputs


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
    learned: np.ndarray | None = None
    """Of a decoder's conversations: which of the prompts' tokens are answers given earlier, learned as well; bool, like
    `prompts.tokens`. The first token of a row is none."""

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
    def predicted(self) -> np.ndarray:
        """Tokens that are predicted of each example, S_i [N]: its answer, and the earlier ones that are learned too."""
        if self.learned is None:
            return self.answers.lengths
        return self.answers.lengths + np.diff(np.concatenate([[0], self.learned.cumsum()])[self.prompts.offsets])

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
        made = {
            "prompts": self.prompts.tokens,
            "prompts_offsets": self.prompts.offsets,
            "answers": self.answers.tokens,
            "answers_offsets": self.answers.offsets,
        }
        return made if self.learned is None else made | {"learned": self.learned}

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
        if decoder:
            whole = [np.concatenate([self.prompts.row(i), answer]) for i, answer in zip(rows, answers, strict=True)]
            targets = [self._targets(i) for i in rows]
            labels = np.concatenate([tokens[target] for tokens, target in zip(whole, targets, strict=True)])
            # Token t is predicted at the place of token t − 1; so a row lacks its last token, which predicts nothing.
            inputs, real = self._padded([tokens[:-1] for tokens in whole], "right", width_multiple, widest)
            predicts = np.zeros(inputs.shape, dtype=bool)
            for number, target in enumerate(targets):
                predicts[number, : len(target) - 1] = target[1:]
            arguments = {"input_ids": inputs, "attention_mask": real}
        else:
            labels = np.concatenate(answers)
            inputs, real = self._padded([self.prompts.row(i) for i in rows], "right", width_multiple, widest)
            start = np.array([self.form.decoder_start])
            decoder_inputs, answered = self._padded([np.concatenate([start, a[:-1]]) for a in answers], "right")
            predicts = answered.astype(bool)
            arguments = {"input_ids": inputs, "attention_mask": real, "decoder_input_ids": decoder_inputs}
        return AnswerBatch(
            {name: torch.from_numpy(array) for name, array in arguments.items()},
            torch.from_numpy(np.flatnonzero(predicts)),
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(self.predicted[rows]),
        )

    def collate_prompts(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Inputs to go on from: prompts of these examples, padded on the left [m, L]."""
        inputs, real = self._padded([self.prompts.row(i) for i in rows], "left")
        return {"input_ids": torch.from_numpy(inputs), "attention_mask": torch.from_numpy(real)}

    def forward(self, model: nn.Module, batch: AnswerBatch, device: torch.device) -> TokenRows:
        """Predictions at the answer tokens of collated examples: `labels`, and `input<j>` of the output layer."""
        real, predicts = batch.arguments["attention_mask"], batch.predicts
        if takes_concatenated(model):
            predicts = real.flatten().cumsum(0)[predicts] - 1
        with padding_known(real, device):
            caught = catch_inputs(model, **model_inputs(model, batch.arguments, device))
        where = on_device(predicts, device)
        columns = {"labels": on_device(batch.labels, device)}
        columns |= {f"input{j}": inputs.flatten(0, 1)[where] for j, inputs in enumerate(caught)}
        return TokenRows(batch.lengths, columns)

    def _targets(self, row: int) -> np.ndarray:
        """Which tokens of a decoder's row, prompt and answer, are predicted: bool."""
        prompt = slice(self.prompts.offsets[row], self.prompts.offsets[row + 1])
        earlier = np.zeros(self.prompts.lengths[row], dtype=bool) if self.learned is None else self.learned[prompt]
        return np.concatenate([earlier, np.ones(self.answers.lengths[row], dtype=bool)])

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
    tokenizer: Any,
    form: Form,
    rows: tuple[list[str], list[str]],
    settings: DictConfig,
    what: str,
    numbers: Sequence[int] | None = None,
) -> AnswerExamples:
    """Tokenize prompts and answers (`rows`). `task.max_length` (`settings`: cfg.task) counts the tokens of a decoder's row, or
    of an encoder–decoder's two rows each.

    A prompt that leaves no room for an answer is an error, or loses its beginning, so much that its answer has room
    (`long_prompts=cut`). An answer that is too long loses its end, and with it the end of sequence. Raises `UserError` if
    that happens to more than 5 % of the examples, or an answer has no tokens. `what` names the split in messages, `numbers` [N]
    its examples.
    """
    room = Room(settings, form.decoder_start is None, what, numbers)
    prompts, answers = as_chat(tokenizer, *rows) if form.chat else rows
    with unchanged(tokenizer):
        answer_ids = tokenizer(answers, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    for row, answer in enumerate(answer_ids):
        if not answer and rows[1][row] != settings.get("no_answer"):
            raise UserError(f"{what}, {room.row(row)}: the answer has no tokens, so there is nothing to learn from it.")
    return _examples(tokenizer, form, (_prompt_tokens(tokenizer, form, prompts, room), answer_ids), room)


def encode_prompts(
    tokenizer: Any,
    form: Form,
    prompts: Sequence[str | Turns],
    settings: DictConfig,
    what: str,
    numbers: Sequence[int] | None = None,
) -> AnswerExamples:
    """Tokenize prompts (in a chat format also whole conversations) whose answers are to be written, as `encode_answers`
    does; each answer is its end alone. What is written may go beyond `task.max_length`, so a prompt that is cut keeps
    all but one token of it.

    Raises `UserError` as it does.
    """
    asked = as_chat(tokenizer, prompts)[0] if form.chat else [str(prompt) for prompt in prompts]
    room = Room(settings, form.decoder_start is None, what, numbers)
    prompt_ids = _prompt_tokens(tokenizer, form, asked, room)
    uncut, cut = max(map(len, prompt_ids), default=0), fit_prompts(prompt_ids, room)
    return AnswerExamples(Flat.of(prompt_ids), Flat.of([[tokenizer.eos_token_id]] * len(prompt_ids)), form, cut, uncut)


def encode_conversations(
    tokenizer: Any, form: Form, conversations: Conversations, settings: DictConfig, what: str
) -> AnswerExamples:
    """Tokenize conversations that end with the assistant's turn: what stands before it is the prompt, in which the
    assistant's earlier turns are learned as well, unless `task.turns=last` (`settings`: cfg.task).

    Cuts and raises `UserError` as `encode_answers` does, and where the tokenizer's chat template does not fit.
    """
    found = conversation_tokens(tokenizer, conversations, settings.turns, what)
    tokens = [one.prompt for one in found], [one.answer for one in found]
    earlier = [one.learned for one in found]
    room = Room(settings, form.decoder_start is None, what, conversations.rows)
    return _examples(tokenizer, form, tokens, room, earlier)


def _examples(
    tokenizer: Any,
    form: Form,
    tokens: tuple[list[list[int]], list[list[int]]],
    room: Room,
    learned: list[list[bool]] | None = None,
) -> AnswerExamples:
    """Prompts and answers in `tokens`, cut to `task.max_length`. `learned`: of the prompts' tokens."""
    prompts, answers = tokens
    cut, uncut = fit(prompts, answers, tokenizer.eos_token_id, room)
    of_prompts = None
    if learned is not None:  # of a prompt that lost its beginning, the rest; nothing stands before a row's first token
        kept = [mask[len(mask) - len(ids) :] for mask, ids in zip(learned, prompts, strict=True)]
        of_prompts = np.array([place > 0 and one for mask in kept for place, one in enumerate(mask)], dtype=bool)
    return AnswerExamples(Flat.of(prompts), Flat.of(answers), form, cut, uncut, learned=of_prompts)


def _prompt_tokens(tokenizer: Any, form: Form, prompts: list[str], room: Room) -> list[list[int]]:
    """Prompts in tokens. Raises `UserError` if one has none."""
    end = tokenizer.eos_token_id
    with unchanged(tokenizer):
        # A chat format writes its special tokens itself.
        prompt_ids = tokenizer(prompts, add_special_tokens=not form.chat, return_attention_mask=False)["input_ids"]
    if form.decoder_start is None:  # a tokenizer that closes a text would close the prompt before its answer
        prompt_ids = [ids[:-1] if ids and ids[-1] == end else ids for ids in prompt_ids]
    for row, prompt in enumerate(prompt_ids):
        if not prompt:
            raise UserError(f"{room.what}, {room.row(row)}: the prompt has no tokens, so there is nothing to answer.")
    return list(prompt_ids)
