"""Tokens that are kept: made once by whoever comes first, found by the others, made anew if they are damaged."""

from __future__ import annotations

import logging
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.encoding import labelled
from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_answers
from selfdistill_cli.encoding.kept_answers import kept_examples
from selfdistill_cli.encoding.token_store import kept_arrays
from selfdistill_cli.tasks import Split
from tests.encoding.test_answers import tokenizer as of_words

CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
ROWS = (["how many apples", "how many", "apples"], ["two", "one two three", "one"])
DECODER = Form(0, None)
SETTINGS = {"max_length": 32, "long_prompts": "error"}


class Counting:
    """A tokenizer that counts how often it is asked for tokens."""

    def __init__(self, chat_template: str | None = None) -> None:
        self.tokenizer = of_words()
        self.tokenizer.chat_template = chat_template
        self.calls = 0

    def __call__(self, *texts: Any, **how: Any) -> Any:
        self.calls += 1
        return self.tokenizer(*texts, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def encoded(
    folder: Path | None, with_tokenizer: Any, form: Form = DECODER, settings: DictConfig | None = None
) -> AnswerExamples:
    asked = settings or OmegaConf.create(SETTINGS)

    def make() -> AnswerExamples:
        return encode_answers(with_tokenizer, form, ROWS, asked, "t, train")

    return kept_examples((folder, with_tokenizer), form, asked, "generation", make)


def test_the_second_start_asks_no_tokenizer_and_has_the_same_bytes(tmp_path: Path) -> None:
    memory = encoded(None, Counting())
    first, second = Counting(), Counting()
    made, found = encoded(tmp_path, first), encoded(tmp_path, second)
    assert (first.calls > 0, second.calls) == (True, 0)
    for examples in (made, found):
        assert isinstance(examples.prompts.tokens, np.memmap)
        assert examples.digest() == memory.digest()
        assert (examples.truncated, examples.uncut, examples.form) == (memory.truncated, memory.uncut, memory.form)
        for ours, theirs in zip(examples.arrays().values(), memory.arrays().values(), strict=True):
            assert ours.dtype == theirs.dtype
        batch, expected = (one.collate(np.array([2, 0])) for one in (examples, memory))
        assert all(batch.arguments[name].equal(expected.arguments[name]) for name in expected.arguments)
        assert batch.labels.equal(expected.labels)


def test_what_determines_the_tokens_tells_them_apart(tmp_path: Path) -> None:
    ways: list[tuple[Form, str | None, dict[str, Any]]] = [
        (Form(0, None), None, {}),
        (Form(0, 0), None, {}),
        (Form(0, None), None, {"max_length": 6}),
        (Form(0, None), None, {"long_prompts": "cut"}),
        (Form(0, None, chat=True), CHAT, {}),
        (Form(0, None, chat=True), f"how {CHAT}", {}),
    ]
    for form, template, changed in ways:
        settings = OmegaConf.create({**SETTINGS, **changed})
        asked = Counting(template)
        assert (
            encoded(tmp_path, asked, form, settings).digest()
            == encoded(None, Counting(template), form, settings).digest()
        )
        assert asked.calls > 0
    assert len(list((tmp_path / "tokens").glob("*/about.json"))) == len(ways)


@pytest.mark.parametrize("kind", ["answers", "labels"])
@pytest.mark.parametrize("damage", ["cut", "gone", "no description"])
def test_damage_is_noticed_said_and_mended(
    kind: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def tokens() -> str:
        if kind == "answers":
            return encoded(tmp_path, of_words()).digest()
        split = Split("train", "train", ROWS[0], None, np.zeros(3, np.int64), np.arange(3), folder=tmp_path)
        return labelled.encode(of_words(), split, 32).digest()

    whole = tokens()
    (about,) = tmp_path.glob("tokens/*/about.json")
    file = about.with_name("prompts.bin" if kind == "answers" else "tokens.bin")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    else:
        (file if damage == "gone" else about).unlink()
    with caplog.at_level(logging.WARNING):
        assert tokens() == whole
    assert "is damaged: these tokens are made anew" in caplog.text
    caplog.clear()
    assert tokens() == whole
    assert not caplog.text


def test_of_two_processes_that_start_at_once_one_makes_them(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers, log = context.SimpleQueue(), tmp_path / "log"

    def make() -> tuple[dict[str, np.ndarray], dict[str, int]]:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.3)
        return {"prompts": np.arange(5, dtype=np.int32), "none": np.zeros(0, dtype=bool)}, {"uncut": 7}

    def ask() -> None:
        arrays, numbers = kept_arrays(tmp_path / "tokens" / "here", make)
        answers.put((arrays["prompts"].tolist(), len(arrays["none"]), numbers))

    both = [context.Process(target=ask) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(20)
    assert [answers.get() for _ in both] == [([0, 1, 2, 3, 4], 0, {"uncut": 7})] * 2
    assert log.read_text() == "made\n"
