"""Examples from rows: what each kind of task takes from a table, by the settings of the task.

The role of a split (training or validation) is given by whoever reads it; until then it is `train`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.config.metrics import asked_metrics
from selfdistill_cli.errors import UserError
from selfdistill_cli.system.words import named_rows
from selfdistill_cli.tasks.labels import LabelCodec, label_values
from selfdistill_cli.tasks.missing import without_answer
from selfdistill_cli.tasks.numbers import is_printed_array, parsed_number, written_list
from selfdistill_cli.tasks.sources import RawSplit
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.templates import lists, render, values
from selfdistill_cli.tasks.weights import weight_column

WRITTEN_LIST = re.compile(r"\s*\[")
WRITTEN_TEXTS = re.compile(r"\s*\[\s*[\"']")
"""A list of texts: [1, 2] may well be an answer itself."""
ROUGE_WORD = re.compile(r"[a-z0-9]")
"""What rouge_score takes for a part of a word, in lower case; published figures are made by it."""


def labelled_split(task: DictConfig, codec: LabelCodec, raw: RawSplit) -> Split:
    """Texts, perhaps pairs, with class numbers or targets. Raises `UserError` on a label that is neither."""
    return replace(
        _texts_only(task, raw),
        pairs=render(task.text_pair, raw) if task.text_pair else None,
        labels=codec.encode(label_values(task, raw), raw.at),
        groups=render(task.group, raw) if task.group else None,
    )


def prompted_split(task: DictConfig, raw: RawSplit) -> Split:
    """Prompts, learned answers and acceptable ones. Raises `UserError` on an empty answer.

    Where a row has no acceptable answer and `task.no_answer` says what is right there, that is learned.
    """
    none = without_answer(task, raw)
    answered = raw.filtered(~none) if none.any() else raw
    found = iter(render(task.answer, answered))
    answers = [task.no_answer if lacks else next(found) for lacks in none]
    for row, answer in enumerate(answers):
        if not none[row] and not answer.strip():
            raise UserError(f"{raw.at(row)}: the answer is empty, so there is nothing to learn from it.")
    return replace(_texts_only(task, raw), answers=answers, references=accepted_answers(task, raw))


def accepted_answers(task: DictConfig, raw: RawSplit) -> list[list[str]]:
    """What counts as right in every row."""
    none = without_answer(task, raw)
    answered = raw.filtered(~none) if none.any() else raw
    if task.references:
        found = iter(_lists(task.references, answered, WRITTEN_TEXTS))
    else:
        found = iter([answer] for answer in render(task.answer, answered))
    return [[task.no_answer] if lacks else next(found) for lacks in none]


def require_readable_answers(
    task: DictConfig, rule: Callable[[str], str | None], raw: RawSplit, references: Sequence[list[str]]
) -> None:
    """Raise `UserError` if there are rows none of whose acceptable answers can be read by `rule` (task.answer_rule).

    Whatever a model wrote there would count as wrong. A row without an answer (`task.no_answer`) needs none.
    """
    none = [task.no_answer]
    unread = [row for row, golds in enumerate(references) if golds != none and all(rule(one) is None for one in golds)]
    if unread:
        raise UserError(
            f"{raw.origin}: task.answer_rule={task.answer_rule} reads no answer in {len(unread):,} of {len(raw):,} gold "
            f"answers ({named_rows(raw.numbers[unread].tolist())}; the first is {references[unread[0]][0]!r}), "
            "so that nothing could ever count as right there. Correct them, name another column as task.references, or "
            "take another rule (task.answer_rule=text takes an answer as it stands)."
        )


def require_rouge_words(task: DictConfig, raw: RawSplit, references: Sequence[list[str]]) -> None:
    """Raise `UserError` if ROUGE is asked for and most rows have no acceptable answer with a word by it.

    Every text would be scored 0 there. A row without an answer (`task.no_answer`) needs none.
    """
    asked, none = rouge_metrics(task), [task.no_answer]
    if not asked:
        return
    unread = [
        row
        for row, golds in enumerate(references)
        if golds != none and not any(ROUGE_WORD.search(one.lower()) for one in golds)
    ]
    if 2 * len(unread) > len(raw):
        raise UserError(
            f"{raw.origin}: {asked[0]} knows words of a to z and digits alone, and finds none in {len(unread):,} of "
            f"{len(raw):,} gold answers ({named_rows(raw.numbers[unread].tolist())}; the first is {references[unread[0]][0]!r}), so "
            "that whatever is written there would be scored 0. Take task.metrics=[f1], which compares what stands between "
            "spaces in any script, exact_match or loss; or correct these rows."
        )


def rouge_metrics(task: DictConfig) -> list[str]:
    """Those that the settings name."""
    return [name for name in asked_metrics(task) if name.startswith("rouge")]


def choice_split(task: DictConfig, raw: RawSplit) -> Split:
    """Prompts, choices, and the number of the right one. Raises `UserError` where there is none such."""
    choices = choices_of(task, raw)
    labels = np.empty(len(raw), dtype=np.int64)
    for row, (value, offered) in enumerate(zip(values(task.label, raw), choices, strict=True)):
        number = parsed_number(value)
        if number is None or number not in range(len(offered)):
            raise UserError(
                f"{raw.at(row)}: label {value!r} is no number of its {len(offered)} choices, which count from 0."
            )
        if not all(choice.strip() for choice in offered):
            raise UserError(f"{raw.at(row)}: one of its choices is empty.")
        labels[row] = int(number)
    choices = as_answers(choices)
    answers = [offered[label] for offered, label in zip(choices, labels, strict=True)]
    groups = render(task.group, raw) if task.group else None
    return replace(_texts_only(task, raw), labels=labels, groups=groups, answers=answers, choices=choices)


def choices_of(task: DictConfig, raw: RawSplit) -> list[list[str]]:
    """What there is to choose from in every row. Raises `UserError` where that is a single choice."""
    found = _lists(task.choices, raw, WRITTEN_LIST)
    for row, offered in enumerate(found):
        if len(offered) < 2:
            raise UserError(
                f"{raw.at(row)}: task.choices={task.choices} gives a single choice, {''.join(offered)!r}. It has to be a "
                'column of lists; in a CSV, lists as JSON writes them: ["red", "green"]. Where each choice has a column of '
                'its own, it is a list of templates: ["{a}", "{b}"].'
            )
    return found


def as_answers(choices: list[list[str]]) -> list[list[str]]:
    """Choices as they stand behind their prompts: after a space, with which those of a data set seldom begin."""
    return [[f" {choice.strip()}" for choice in offered] for offered in choices]


def _lists(setting: str, raw: RawSplit, written: re.Pattern[str]) -> list[list[str]]:
    """Several texts a row; a list that is written as a text, as CSV must, is read if it looks like `written`.

    Raises `UserError` on one without commas.
    """
    found = lists(setting, raw)
    if "{" in setting:
        return found
    for row, texts in enumerate(found):
        if len(texts) == 1 and written.match(texts[0]):
            if is_printed_array(texts[0]):
                raise UserError(
                    f"{raw.at(row)}: '{setting}' holds {texts[0][:60]!r}, texts without commas between them, as NumPy and "
                    'pandas print an array. Write lists as JSON does, ["red", "green"]: json.dumps(list(array)).'
                )
            found[row] = written_list(texts[0]) or texts
    return found


def _texts_only(task: DictConfig, raw: RawSplit) -> Split:
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no examples.")
    zeros = np.zeros(len(raw), dtype=np.int64)
    weights = weight_column(task, raw)
    return Split(raw.name, "train", render(task.text, raw), None, labels=zeros, rows=raw.numbers, weights=weights)
