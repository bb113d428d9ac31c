"""Conversations as token numbers: those that the tokenizer's own rendering has, with loss on the assistant's turns.

A turn begins where the rendering of what stands before it, ready to be continued, ends; it ends, with the mark that
closes it, where the rendering up to and with it ends. That needs each of these to be the beginning of the rendering of
the whole: a template that changes earlier turns when later ones follow is refused with the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from selfdistill_cli.encoding.chat import Turns, rendered, require_beginning_of_answers, template_failed
from selfdistill_cli.encoding.token_store import unchanged
from selfdistill_cli.errors import UserError

PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For models whose tokenizer has no format of its own; it is saved with them."""


class Conversations(NamedTuple):
    """Conversations, and the numbers that messages call them by [N]."""

    turns: Sequence[Turns]
    rows: Sequence[int]


class Tokens(NamedTuple):
    """One conversation in tokens."""

    prompt: list[int]
    """Everything before the last answer."""
    learned: list[bool]
    """Which of the prompt's tokens are of earlier answers that are learned too."""
    answer: list[int]
    """The last answer, without the end of sequence."""


def with_format(tokenizer: Any, own: bool) -> None:
    """Give the tokenizer the plain format, unless it has one of its `own` that is wanted."""
    if not (own and tokenizer.chat_template):
        tokenizer.chat_template = PLAIN


def conversation_tokens(tokenizer: Any, conversations: Conversations, learned: str, what: str) -> list[Tokens]:
    """Each conversation, which ends with the assistant's turn.

    learned: `all` of the assistant's turns, or the `last` one alone. `what` names the split in messages. Raises `UserError` if the template fails on one, or a turn cannot be found in what it renders.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{what}: this model's tokenizer cannot say which characters its tokens stand for, so the assistant's turns "
            "cannot be told from the others. Conversations need a fast tokenizer (tokenizer.json)."
        )
    found = []
    for turns, row in zip(*conversations, strict=True):
        text, spans = _spans(tokenizer, turns, learned, f"{what}, row {row}")
        with unchanged(tokenizer):
            encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        found.append(_cut(encoding["input_ids"], encoding["offset_mapping"], spans))
    return found


def _spans(tokenizer: Any, turns: Turns, learned: str, where: str) -> tuple[str, list[tuple[int, int]]]:
    """A conversation as the tokenizer's template renders it, up to the end of its last answer, and the characters of
    each answer that is learned.
    """
    places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    places = places if learned == "all" else places[-1:]
    text = rendered(tokenizer, turns, where=where).rstrip().removesuffix(tokenizer.eos_token)
    spans = []
    for place in places:
        before = rendered(tokenizer, turns[:place], to_be_continued=True, where=where)
        whole = rendered(tokenizer, turns[: place + 1], where=where).rstrip()
        last = place == len(turns) - 1
        end = len(text) if last else len(whole)
        if not text.startswith(before) or not (last or text.startswith(whole)):
            raise _changes_turns(where, place)
        answer = turns[place]["content"].strip()
        if answer not in text[len(before) : end]:
            raise template_failed("it does not write what the assistant says as it stands", where)
        require_beginning_of_answers(tokenizer, turns[:place], text[len(before) : end].partition(answer)[0], where)
        spans.append((len(before), end))
    return text, spans


def _changes_turns(where: str, place: int) -> UserError:
    return UserError(
        f"{where}: the chat template of this model's tokenizer renders the assistant's turn {place} (counted from 0) "
        "otherwise once turns follow it, as templates do that drop earlier thoughts or put the system's turn elsewhere: "
        "what is learned there would not be what the model reads later. task.turns=last learns the last answer of each "
        "conversation alone, task.chat_template=off takes a plain format."
    )


def _cut(ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> Tokens:
    """Tokens by the characters they stand for; one that reaches into an answer belongs to it."""
    learned = [
        any(begin < stop and first < end for begin, end in spans for first, stop in [place]) for place in offsets
    ]
    begin, _ = spans[-1]
    prompt = next((place for place, (_, stop) in enumerate(offsets) if stop > begin), len(ids))
    return Tokens(ids[:prompt], learned[:prompt], ids[prompt:])
