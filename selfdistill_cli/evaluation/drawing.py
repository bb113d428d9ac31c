"""Answers that a model draws to training examples while it learns: each example by random numbers of its own."""

from __future__ import annotations

import contextlib
import string
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn

from selfdistill_cli.encoding.answers import AnswerExamples, encode_prompts
from selfdistill_cli.encoding.drawn import some_of, with_answers
from selfdistill_cli.engine.method import Drawn, Keep
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.evaluation.decoding import Chances, require_room, write_answers

STREAM = 0x73616D706C65
"""Keeps these streams apart from others of the same seed."""


@dataclass(frozen=True)
class TrainingAnswers:
    """Draws answers to the training examples (`engine.method.AnswerWriter`)."""

    model: nn.Module
    tokenizer: Any
    train: AnswerExamples
    texts: tuple[list[str], list[str]]
    """Prompts and gold answers of the training examples [N] each."""
    settings: DictConfig
    """cfg.task."""
    runtime: Runtime
    seed: int

    def require_room(self) -> None:
        """Raise `UserError` if the model's context is too short for a prompt and what is drawn after it."""
        self._require_room(self.train, "an answer drawn in training")

    def draw(self, rows: Sequence[int], number: int, temperature: float) -> Drawn:
        """As the interface says."""
        most = self.settings.decoding.max_new_tokens
        numbers = [self._stream(number, row + 1).random(most) for row in rows]
        decoding = OmegaConf.create({"max_new_tokens": most, "num_beams": 1, "temperature": 0.0})
        with self._apart():
            written = write_answers(
                self.model,
                self.tokenizer,
                some_of(self.train, rows),
                decoding,
                self.runtime,
                self.seed,
                Chances(np.stack(numbers), temperature),
            )
        answers: dict[int, np.ndarray] = {}
        for row, tokens, ended in zip(rows, written.tokens, written.ended, strict=True):
            whole = [*tokens, self.tokenizer.eos_token_id] if ended else tokens
            answers[row] = np.array(whole[: self._room(row)], dtype=np.int32)
        return answers

    def chance(self, number: int) -> float:
        """As the interface says."""
        return float(self._stream(number, 0).random())

    def examples(self, answers: Drawn, behind: Any = None) -> AnswerExamples:
        """As the interface says."""
        return with_answers(self.train if behind is None else behind, answers)

    def prompted(self, template: str) -> AnswerExamples:
        """As the interface says."""
        fields = string.Formatter()
        prompts = [
            fields.format(template, prompt=prompt, answer=answer.strip())
            for prompt, answer in zip(*self.texts, strict=True)
        ]
        what = "train, method.demonstration"
        uncut = self.settings.copy()  # they are read and not learned: the model's context is their only limit
        uncut.max_length = sys.maxsize
        asked = encode_prompts(self.tokenizer, self.train.form, prompts, uncut, what)
        self._require_room(asked, what)
        return replace(self.train, prompts=asked.prompts)

    def predict(self, examples: Any, rows: Sequence[int], keep: Keep) -> Any:
        """As the interface says."""

        def kept(predictions: Any) -> Any:
            found = keep(predictions)
            return found.cpu() if self.runtime.processes > 1 else found  # other processes' devices have other names

        with self._apart():
            return self.runtime.predict(self.model, some_of(examples, rows), kept)

    def _stream(self, number: int, place: int) -> np.random.Generator:
        return np.random.default_rng([STREAM, self.seed, number, place])

    def _room(self, row: int) -> int:
        """How many tokens an answer may have, as `encode_answers` cuts the gold one."""
        prompt = int(self.train.prompts.lengths[row]) if self.train.form.decoder_start is None else 0
        return int(self.settings.max_length) - prompt

    def _require_room(self, examples: AnswerExamples, what: str) -> None:
        model: Any = self.runtime.unwrap(self.model)
        require_room(examples, model.config, self.settings.decoding, f"{self.settings.name}, {what}")

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """While this lasts, what is computed is the drawing's and not the step's."""
        compute = self.runtime.compute
        with self.runtime.phases("drawing"), compute.part("drawing"), compute.apart():
            yield
