"""Answers that a finished run's model draws to its training problems, and the examples that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_prompts
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.evaluation.answer_rules import RULES, is_right
from selfdistill_cli.evaluation.decoding import require_room, write_answers
from selfdistill_cli.models import LoadedModel, load_finished
from selfdistill_cli.self_training.room import second_prompts
from selfdistill_cli.tasks import Split, TaskData


@dataclass(frozen=True)
class Writer:
    """A finished run's model, ready to write answers of its task."""

    loaded: LoadedModel
    model: Any
    """Prepared for the device."""
    task: TaskData
    runtime: Runtime
    seed: int

    @classmethod
    def of(cls, folder: Path, task: TaskData, runtime: Runtime, cfg: DictConfig) -> Writer:
        """The model in this folder, of a run of `cfg`. Raises `UserError` if it cannot be read."""
        loaded = load_finished(folder, task, cfg.model.trust_remote_code)
        return cls(loaded, runtime.prepare(loaded.model), task, runtime, cfg.seed)

    def write(self, prompts: Sequence[str], decoding: DictConfig, what: str, draw: int = 0) -> list[str]:
        """A text for each prompt [N]. `draw` numbers repeated draws, which differ. `what` names them in messages.

        Raises `UserError` where a prompt leaves no room for an answer.
        """
        examples = self._encoded(prompts, what)
        require_room(examples, self.loaded.model.config, decoding, what)
        seed = int.from_bytes(hashlib.sha256(f"{self.seed} {draw}".encode()).digest()[:4], "big")
        return write_answers(self.model, self.loaded.tokenizer, examples, decoding, self.runtime, seed).texts

    def _encoded(self, prompts: Sequence[str], what: str) -> AnswerExamples:
        kind: Any = self.task.kind
        chat = kind.in_chat_format(self.task.settings, self.loaded.tokenizer)
        form = Form.of(self.loaded.model, self.loaded.tokenizer, chat)
        return encode_prompts(self.loaded.tokenizer, form, list(prompts), self.task.settings, what)


def right(task: TaskData, split: Split, texts: Sequence[str]) -> list[bool]:
    """Whether the answer that the task's rule reads off each text is an acceptable one [N]."""
    rule = RULES[task.settings.answer_rule]
    return [is_right(rule, text, golds) for text, golds in zip(texts, split.references or [], strict=True)]


def kept(task: TaskData, draws: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Prompts and texts of the draws whose answer is right, each distinct text of a problem once, gold ones not again.

    draws: [samples][N], texts to the problems of the training split.
    """
    train = task.train
    seen = [{answer.strip()} for answer in train.answers or []]
    prompts, answers = [], []
    for texts in draws:
        for row, good in enumerate(right(task, train, texts)):
            text = texts[row].rstrip()
            if good and text.strip() not in seen[row]:
                seen[row].add(text.strip())
                prompts.append(train.texts[row])
                answers.append(text)
    return prompts, answers


def corrections(task: TaskData, draws: Sequence[Sequence[str]], request: str) -> tuple[list[str], list[str]]:
    """Prompts of second attempts to every distinct first one, right or wrong, and the gold answers to them."""
    train = task.train
    pairs: dict[tuple[str, str], None] = {}
    for texts in draws:
        asked = second_prompts(train.texts, texts, request)
        pairs |= dict.fromkeys(zip(asked, train.answers or [], strict=True))
    return [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
