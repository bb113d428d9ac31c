"""Examples from rows: what each kind of task takes from a table, by the settings of the task.

The role of a split (training or validation) is given by whoever reads it; until then it is `train`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks.labels import LabelCodec
from selfdistill_cli.tasks.sources import RawSplit
from selfdistill_cli.tasks.split import Split
from selfdistill_cli.tasks.templates import lists, render, values
from selfdistill_cli.tasks.weights import weight_column


def labelled_split(task: DictConfig, codec: LabelCodec, raw: RawSplit) -> Split:
    """Texts, perhaps pairs, with class numbers or targets. Raises `UserError` on a label that is neither."""
    return replace(
        _texts_only(task, raw),
        pairs=render(task.text_pair, raw) if task.text_pair else None,
        labels=codec.encode(raw.column(task.label), raw.at),
        groups=render(task.group, raw) if task.group else None,
    )


def prompted_split(task: DictConfig, raw: RawSplit) -> Split:
    """Prompts, learned answers and acceptable ones. Raises `UserError` on an empty answer."""
    answers = render(task.answer, raw)
    for row, answer in enumerate(answers):
        if not answer.strip():
            raise UserError(f"{raw.at(row)}: the answer is empty, so there is nothing to learn from it.")
    references = lists(task.references, raw) if task.references else [[answer] for answer in answers]
    return replace(_texts_only(task, raw), answers=answers, references=references)


def choice_split(task: DictConfig, raw: RawSplit) -> Split:
    """Prompts, choices, and the number of the right one. Raises `UserError` where there is none such."""
    choices = lists(task.choices, raw)
    labels = np.empty(len(raw), dtype=np.int64)
    for row, (value, offered) in enumerate(zip(values(task.label, raw), choices, strict=True)):
        if str(value) not in map(str, range(len(offered))):
            raise UserError(f"{raw.at(row)}: label {value!r} is no number of its {len(offered)} choices.")
        if not all(choice.strip() for choice in offered):
            raise UserError(f"{raw.at(row)}: one of its choices is empty.")
        labels[row] = int(value)
    # A space as between the words of one text; the choices of a data set seldom begin with one.
    choices = [[f" {choice.strip()}" for choice in offered] for offered in choices]
    answers = [offered[label] for offered, label in zip(choices, labels, strict=True)]
    groups = render(task.group, raw) if task.group else None
    return replace(_texts_only(task, raw), labels=labels, groups=groups, answers=answers, choices=choices)


def _texts_only(task: DictConfig, raw: RawSplit) -> Split:
    if len(raw) == 0:
        raise UserError(f"{raw.origin} holds no examples.")
    zeros = np.zeros(len(raw), dtype=np.int64)
    numbers = raw.first_row + np.arange(len(raw))
    weights = weight_column(task, raw)
    return Split(raw.name, "train", render(task.text, raw), None, labels=zeros, rows=numbers, weights=weights)
