"""Conversations, one a row: a list of turns with role and content, of which the assistant's are learned.

{"messages": [{"role": "user", "content": "Is 7 prime?"}, {"role": "assistant", "content": "Yes."}]}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import named_rows
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.templates import values
from selfdistill_cli.tasks.weights import weight_column

if TYPE_CHECKING:
    from selfdistill_cli.tasks.sources import RawSplit

ROLES = ("system", "user", "assistant")
Turns = list[dict[str, str]]
"""Each with `role` and `content`."""
SHOWN = 5


class _BadTurnsError(ValueError):
    """What is wrong with a conversation, in words."""


def chat_split(task: DictConfig, raw: RawSplit) -> Split:
    """Conversations; of each, what stands before the assistant's last turn as the prompt, and that turn as the answer.

    Raises `UserError` on rows that are no conversation, with their numbers.
    """
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no examples.")
    turns = _conversations(task.messages, raw, _to_learn)
    answered = [up_to_last_answer(one) for one in turns]
    answers = [one[-1]["content"] for one in answered]
    return Split(
        raw.name,
        "train",
        [as_text(one[:-1]) for one in answered],
        None,
        labels=np.zeros(len(raw), dtype=np.int64),
        rows=raw.numbers,
        answers=answers,
        references=[[answer] for answer in answers],
        turns=turns,
        weights=weight_column(task, raw),
    )


def chats_to_answer(task: DictConfig, raw: RawSplit) -> Split:
    """Conversations whose next turn is to be written; where one ends with the assistant's turn, that turn anew."""
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no rows.")
    turns = _conversations(task.messages, raw, _to_answer)
    zeros = np.zeros(len(raw), dtype=np.int64)
    texts = list(map(as_text, turns))
    return Split(raw.name, "evaluation", texts, None, labels=zeros, rows=raw.numbers, turns=turns)


def up_to_last_answer(turns: Turns) -> Turns:
    """A conversation without the turns that nobody answers."""
    last = max(place for place, turn in enumerate(turns) if turn["role"] == "assistant")
    return turns[: last + 1]


def unanswered(value: Any) -> bool:
    """Whether a row holds nothing to learn: no turns, or none of the assistant. What is no conversation is not judged."""
    try:
        turns = _listed(value)
    except _BadTurnsError:
        return False
    return all(isinstance(turn, dict) and turn.get("role") in ("system", "user") for turn in turns)


def as_text(turns: Turns) -> str:
    """A conversation up to where the assistant goes on, for people."""
    return "".join(f"{turn['role'].capitalize()}: {turn['content']}\n" for turn in turns) + "Assistant:"


def _conversations(column: str, raw: RawSplit, judged: Callable[[Turns], Turns]) -> list[Turns]:
    """The turns of every row. Raises `UserError` with all that is wrong, by the rows that have it."""
    found: list[Turns] = []
    wrong: dict[str, list[int]] = {}
    for row, value in enumerate(values(column, raw)):
        try:
            found.append(judged([_turn(turn, f"{column}[{place}]") for place, turn in enumerate(_listed(value))]))
        except _BadTurnsError as error:
            wrong.setdefault(str(error).replace("…", column), []).append(int(raw.numbers[row]))
    if wrong:
        count = len(raw) - len(found)
        told = "\n".join(f"  {named_rows(rows)}: {words}" for words, rows in list(wrong.items())[:SHOWN])
        more = f"\n  and {len(wrong) - SHOWN:,} other things" if len(wrong) > SHOWN else ""
        raise UserError(
            f"{raw.origin}: {count:,} of {len(raw):,} rows are no conversation that can be learned "
            f"(rows and turns counted from 0):\n{told}{more}\nCorrect these rows, or leave them out of the file."
        )
    return found


def _listed(value: Any) -> list[Any]:
    """The list of turns, which text formats write as JSON."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise _BadTurnsError("'…' is a text, and no list of turns as JSON writes it") from None
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise _BadTurnsError("'…' is no list of turns")
    return value


def _turn(turn: Any, where: str) -> dict[str, str]:
    if not isinstance(turn, dict) or "role" not in turn or "content" not in turn:
        has = f"it has {', '.join(map(str, turn))}" if isinstance(turn, dict) else "it is no record"
        raise _BadTurnsError(f"{where} has no role and content ({has})")
    role = turn["role"]
    if role not in ROLES:
        raise _BadTurnsError(f"{where} has the role {role!r}; there are {', '.join(ROLES)}")
    if turn.get("tool_calls"):
        raise _BadTurnsError(f"{where} calls tools, and only what is said is learned")
    return {"role": role, "content": _content(turn["content"], where)}


def _content(content: Any, where: str) -> str:
    """Text, or parts that are all text, one behind the other."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            kinds = sorted({str(part.get("type")) for part in content if isinstance(part, dict)} - {"text"})
            others = f" ({', '.join(kinds)})" if kinds else ""
            raise _BadTurnsError(f"the content of {where} is not only text{others}")
        content = "".join(texts)
    if content is not None and not isinstance(content, str):
        raise _BadTurnsError(f"the content of {where} is no text")
    if content is None or not content.strip():
        raise _BadTurnsError(f"{where} has no content")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise _BadTurnsError(f"{where} holds half of a character (a lone surrogate)") from None
    return content


def _to_learn(turns: Turns) -> Turns:
    roles = [turn["role"] for turn in turns]
    _require_order(roles)
    if "assistant" not in roles:
        raise _BadTurnsError("no turn is the assistant's, so there is nothing to learn")
    return turns


def _to_answer(turns: Turns) -> Turns:
    _require_order([turn["role"] for turn in turns])
    asked = turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns
    if not asked or asked[-1]["role"] != "user":
        raise _BadTurnsError("no turn of a user asks for an answer at its end")
    return asked


def _require_order(roles: list[str]) -> None:
    if "system" in roles[1:]:
        raise _BadTurnsError(f"…[{roles.index('system', 1)}] is a system turn, and that stands at the beginning alone")
    if [role for role in roles if role != "system"][:1] == ["assistant"]:
        raise _BadTurnsError("it begins with the assistant's turn, for which nobody has asked")
    for place, (role, following) in enumerate(pairwise(roles)):
        if role == following == "assistant":
            raise _BadTurnsError(f"…[{place}] and …[{place + 1}] are both the assistant's: make them one turn")
