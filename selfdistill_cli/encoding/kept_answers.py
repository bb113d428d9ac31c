"""Prompts and answers in tokens, made once and mapped from files from then on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from selfdistill_cli.encoding.answers import AnswerExamples, Form
from selfdistill_cli.encoding.room import Flat
from selfdistill_cli.encoding.token_store import kept_arrays, place_below

DETERMINE_TOKENS = ("max_length", "long_prompts", "no_answer", "turns")
"""Settings of a task on which its tokens depend, beside those that say which texts it has."""

CHAT_VERSION = 2
"""Raise it when a chat template's rendering is cut or told otherwise, so that the same template gives other tokens."""

CUT_VERSION = 2
"""Raise it when `task.long_prompts=cut` leaves other tokens of the same prompts."""


def kept_examples(
    where: tuple[Path | None, Any], form: Form, settings: DictConfig, kind: str, make: Callable[[], AnswerExamples]
) -> AnswerExamples:
    """What `make` gives, mapped from a folder below that of the split, if it has one: made once, it is there the next time.

    `where`: the split's folder, and the tokenizer. What determines the tokens is in the folder's name, with what the
    tokenizer is: its chat template, if `form` asks for it, and the `settings` (cfg.task) of this `kind` that say what is
    cut and what is learned.
    """
    folder, tokenizer = where
    asked = {name: settings.get(name) for name in DETERMINE_TOKENS}
    if asked["long_prompts"] == "cut":
        asked["cut"] = CUT_VERSION
    chat = (CHAT_VERSION, tokenizer.chat_template) if form.chat else None
    place = place_below(folder, tokenizer, kind, form, asked, chat)
    if place is None:
        return make()

    def arrays() -> tuple[dict[str, np.ndarray], dict[str, int]]:
        made = make()
        return made.arrays(), {"truncated": made.truncated, "uncut": made.uncut}

    found, numbers = kept_arrays(place, arrays)
    prompts, answers = (Flat(found[name], found[f"{name}_offsets"]) for name in ("prompts", "answers"))
    learned = found.get("learned")
    return AnswerExamples(prompts, answers, form, numbers["truncated"], numbers["uncut"], learned=learned)
