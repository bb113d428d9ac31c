"""Whether what later rounds read and write has room, asked before the first one; and drawn answers held to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_answers, encode_prompts
from selfdistill_cli.encoding.room import MOST_CUT
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation import decoding
from selfdistill_cli.models import LoadedModel
from selfdistill_cli.tasks import Split, TaskData

SECOND = "second attempts"
"""What messages call them."""


def second_prompts(prompts: Sequence[str], attempts: Sequence[str], request: str) -> list[str]:
    """What asks for a second attempt: the prompt, the first attempt, and the request to check it."""
    return [f"{prompt}{attempt.rstrip()}\n{request}" for prompt, attempt in zip(prompts, attempts, strict=True)]


def require_room(cfg: DictConfig, task: TaskData, loaded: LoadedModel) -> None:
    """Raise `UserError` if a second attempt's prompt with the longest first attempt in it, and what follows, is too long.

    What follows is in training the gold answer, of which as many may be cut as `encode_answers` cuts, and in validation
    another attempt.
    """
    form = _form(loaded, task)
    request, new = cfg.self_training.request, int(cfg.task.decoding.max_new_tokens)
    train, validation = (
        _without_attempt(loaded, form, task, split, request) for split in (task.train, task.validation[0])
    )
    prompts = max(int(split.prompts.lengths.max()) for split in (train, validation)) + new
    decoder = form.decoder_start is None
    cuts = decoder and cfg.task.long_prompts == "cut"  # all but one token of a prompt may go
    whole = train.answers.lengths + 1 if cuts else train.lengths + new if decoder else train.answers.lengths
    needed = int(np.quantile(whole, 1 - MOST_CUT, method="higher"))
    if cfg.task.long_prompts == "error":
        needed = max(needed, prompts + decoder)
    holds = f"self_training={cfg.self_training.name}: the prompt of a second attempt holds the first one"
    longest = f"(the longest prompt, task.decoding.max_new_tokens={new}, the request)"
    context = getattr(loaded.model.config, "max_position_embeddings", None) if decoder else None
    written = min(prompts, max(needed, cfg.task.max_length) - 1) + new
    if context is not None and max(needed, written) > context:
        raise UserError(
            f"{holds}; with another attempt or the gold answer behind it that takes up to {max(needed, written)} tokens "
            f"{longest}, and this model's context has {context}. Give fewer new tokens: task.decoding.max_new_tokens="
            f"{max(1, min(new - (needed - context), new - (written - context + 1) // 2))}, or shorter prompts."
        )
    if needed > cfg.task.max_length:
        raise UserError(
            f"{holds}, and takes with the gold answer up to {needed} tokens {longest}; "
            f"task.max_length={cfg.task.max_length} has no room for them. Add task.max_length={needed}."
        )


def require_room_to_draw(cfg: DictConfig, task: TaskData, loaded: LoadedModel) -> None:
    """Raise `UserError` if a training problem leaves no room in the model's context for an answer to be drawn."""
    prompts = encode_prompts(loaded.tokenizer, _form(loaded, task), list(task.train.texts), task.settings, task.name)
    decoding.require_room(prompts, loaded.model.config, cfg.task.decoding, f"{task.name}, an answer to be drawn")


def that_fit(
    loaded: LoadedModel, task: TaskData, prompts: list[str], answers: list[str]
) -> tuple[list[str], list[str], int]:
    """Those of these examples whose answer is whole in `task.max_length` tokens, and how many others there are.

    The end of an answer is where its result stands: without it nothing right would be learned.
    """
    if not prompts:
        return [], [], 0
    form, most = _form(loaded, task), int(task.settings.max_length)
    taken = _uncut(loaded, form, task, (prompts, answers), "drawn answers")
    beside = 1 if task.settings.long_prompts == "cut" else np.minimum(taken.prompts.lengths, most - 1)
    left = most - beside if form.decoder_start is None else most
    fits = taken.answers.lengths <= left
    kept = [(p, a) for p, a, whole in zip(prompts, answers, fits, strict=True) if whole]
    return [p for p, _ in kept], [a for _, a in kept], len(prompts) - len(kept)


def held_to(loaded: LoadedModel, task: TaskData, split: Split, attempts: Sequence[str], request: str) -> list[str]:
    """These attempts at a split's problems [N], such that no second prompt is longer than `require_room` foresaw.

    What was written in so many tokens can take more when it is read again; such an attempt loses its end.
    """
    form, most = _form(loaded, task), int(task.settings.decoding.max_new_tokens)
    room = _without_attempt(loaded, form, task, split, request).prompts.lengths + most
    found, rows = list(attempts), list(range(len(attempts)))
    while rows:
        asked = second_prompts([split.texts[row] for row in rows], [found[row] for row in rows], request)
        taken = _uncut(loaded, form, task, (asked, [""] * len(rows)), SECOND).prompts.lengths
        rows = [row for row, tokens in zip(rows, taken, strict=True) if tokens > room[row]]
        for row in rows:
            found[row] = found[row].rstrip()[: int(0.9 * len(found[row].rstrip()))]
    return found


def _form(loaded: LoadedModel, task: TaskData) -> Form:
    kind: Any = task.kind
    return Form.of(loaded.model, loaded.tokenizer, kind.in_chat_format(task.settings, loaded.tokenizer))


def _without_attempt(loaded: LoadedModel, form: Form, task: TaskData, split: Split, request: str) -> AnswerExamples:
    """Second prompts to a split's problems as if nothing had been written first, and the gold answers."""
    asked = second_prompts(split.texts, [""] * len(split), request)
    return _uncut(loaded, form, task, (asked, list(split.answers or [])), SECOND)


def _uncut(
    loaded: LoadedModel, form: Form, task: TaskData, rows: tuple[list[str], list[str]], what: str
) -> AnswerExamples:
    """Prompts and answers in tokens, whatever their lengths."""
    settings = task.settings.copy()
    settings.max_length, settings.no_answer = sys.maxsize, ""
    return encode_answers(loaded.tokenizer, form, rows, settings, f"{task.name}, {what}")
