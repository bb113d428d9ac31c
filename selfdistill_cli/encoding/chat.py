"""Prompts and answers in a tokenizer's own chat format: what an instruct model was trained to read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfdistill_cli.errors import UserError, first_line


def has_chat_format(tokenizer: Any) -> bool:
    """Whether the tokenizer says how a conversation is written."""
    return bool(getattr(tokenizer, "chat_template", None))


def as_chat(
    tokenizer: Any, prompts: Sequence[str], answers: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Each prompt as a user's turn up to where the answer begins, and each answer as the turn that follows it.

    Answers are stripped, and end with what the format closes a turn with, without the end of sequence that encoding adds.
    Without `answers` there are none. Raises `UserError` if the template fails on a conversation of one question and one
    answer, or does not put the answer behind the question.
    """
    asked = [_rendered(tokenizer, [_turn("user", prompt)], to_be_continued=True) for prompt in prompts]
    if answers is None:
        return asked, []
    answered = []
    for prompt, question, answer in zip(prompts, asked, answers, strict=True):
        whole = _rendered(tokenizer, [_turn("user", prompt), _turn("assistant", answer.strip())])
        if not whole.startswith(question) or answer.strip() not in whole[len(question) :]:
            raise _failed("it does not write an answer behind its question")
        # Behind the end of the turn some formats begin a new line, which no model is asked to write.
        answered.append(whole[len(question) :].rstrip().removesuffix(tokenizer.eos_token))
    return asked, answered


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _rendered(tokenizer: Any, turns: list[dict[str, str]], to_be_continued: bool = False) -> str:
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=to_be_continued))
    except Exception as error:  # a template is a program of the model's author, which may raise anything
        raise _failed(first_line(error)) from error


def _failed(why: str) -> UserError:
    return UserError(
        f"The chat template of this model's tokenizer fails: {why}. task.chat_template=off prompts it with the plain text."
    )
