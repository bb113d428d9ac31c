"""Prompts and answers in a tokenizer's own chat format: what an instruct model was trained to read and write."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from selfdistill_cli.errors import UserError, first_line

Turns = list[dict[str, str]]
"""Each with `role` and `content`."""
TODAY = datetime.date(2024, 7, 26)
"""What templates are told that write the date: the one that Llama's name where they are told none. With the real one
the same command would learn from other prompts every day."""
DAYS = "".join(f" | replace('%{sign}', '{TODAY.strftime(f'%{sign}')}')" for sign in "dbBmyYaAjHMS")
PROBE = "0123456789"
"""Words that no template writes by itself."""
WITH_DATE = "{% macro strftime_now(form) %}{{ form" + DAYS + " }}{% endmacro %}{{ '' }}"
"""Before a template: the function of this name that transformers gives it asks the clock, and no other one is taken."""


def has_chat_format(tokenizer: Any) -> bool:
    """Whether the tokenizer says how a conversation is written."""
    return bool(getattr(tokenizer, "chat_template", None))


def as_chat(
    tokenizer: Any, prompts: Sequence[str | Turns], answers: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Each prompt as a user's turn (or the turns that it is) up to where the answer begins, and each answer as the turn
    that follows it.

    Answers are stripped, and end with what the format closes a turn with, without the end of sequence that encoding adds.
    Without `answers` there are none. Raises `UserError` if the template fails on a conversation of one question and one
    answer, does not put the answer behind the question, or does not say how an answer begins.
    """
    turns = [[_turn("user", prompt)] if isinstance(prompt, str) else prompt for prompt in prompts]
    asked = [rendered(tokenizer, one, to_be_continued=True) for one in turns]
    if answers is None:
        return asked, []
    answered: list[str] = []
    checked = False
    for before, question, given in zip(turns, asked, answers, strict=True):
        answer = given.strip()
        whole = rendered(tokenizer, [*before, _turn("assistant", answer)])
        if not whole.startswith(question) or answer not in whole[len(question) :]:
            raise template_failed("it does not write an answer behind its question")
        if answer and not checked:  # the same for all
            checked = True
            require_beginning_of_answers(tokenizer, before, whole[len(question) :].partition(answer)[0])
        # Behind the end of the turn some formats begin a new line, which no model is asked to write.
        answered.append(whole[len(question) :].rstrip().removesuffix(tokenizer.eos_token))
    return asked, answered


def rendered(tokenizer: Any, turns: Turns, to_be_continued: bool = False, where: str = "") -> str:
    """A conversation as the tokenizer's template writes it; `to_be_continued`: up to where the assistant's turn begins.

    Raises `UserError` if the template fails. `where` names the conversation.
    """
    try:
        own = tokenizer.get_chat_template()
        of = WITH_DATE + own if "strftime_now" in own else own
        told = {"chat_template": of, "add_generation_prompt": to_be_continued}
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **told))
    except Exception as error:  # a template is a program of the model's author, which may raise anything
        raise template_failed(first_line(error), where) from error


def opening(tokenizer: Any) -> str:
    """What the template writes before the words of an answer, as models do that can think and are not to, or nothing.

    It is learned and written with the answer, and no reference has it.
    """
    asked = [_turn("user", PROBE)]
    before = rendered(tokenizer, asked, to_be_continued=True)
    return rendered(tokenizer, [*asked, _turn("assistant", PROBE)])[len(before) :].partition(PROBE)[0].strip()


def require_beginning_of_answers(tokenizer: Any, asked: Turns, header: str, where: str = "") -> None:
    """Raise `UserError` if the template takes no `add_generation_prompt` and needs it.

    header: what it writes between `asked`, ready to be continued, and the words of the answer. Where that is a heading
    of the assistant's turn, a model would have to write it before each answer.
    """
    if header.strip() and rendered(tokenizer, asked, to_be_continued=True) == rendered(tokenizer, asked):
        raise template_failed(
            f"it takes no add_generation_prompt, so that the heading of an answer ({header.strip()!r}) would be written "
            "by the model",
            where,
        )


def template_failed(why: str, where: str = "") -> UserError:
    """What is wrong with a tokenizer's chat template, and the way around it. `where` names the conversation."""
    return UserError(
        f"{where}{': t' if where else 'T'}he chat template of this model's tokenizer fails: {why}. "
        "task.chat_template=off takes plain text instead."
    )


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
