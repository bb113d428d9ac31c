"""Texts and pairs of texts in tokens, cut to the largest length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfdistill_cli.encoding.labelled import LabelledExamples, encode, separates_pairs
from selfdistill_cli.tasks import Split
from tests.encoding.test_chat import CHATML, tokenizer

TEXTS = ["Why not two lines of apples", "How?", "How many", "Why not", "two lines"]
PAIRS = ["Because.", "Because I counted the apples, two and two", "two", "many apples", "lines two"]


def rows_of(examples: LabelledExamples) -> list[list[int]]:
    return [part.tolist() for part in np.split(examples.tokens, examples.offsets[1:-1])]


def pairs(folder: Path | None = None, texts: list[str] = TEXTS) -> Split:
    return Split("train", "train", texts, PAIRS, np.zeros(5, np.int64), np.arange(5), folder=folder)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", range(4, 60))
def test_the_longer_text_of_a_joined_pair_is_cut(length: int, side: str) -> None:
    of = tokenizer(CHATML, "<|im_end|>")
    of.truncation_side = side
    assert not separates_pairs(of)
    found = encode(of, pairs(), max_length=length)
    # The tokenizer's own pairs, without a mark between them, cut by its own longest_first.
    asked = [(a, f"\n{b}") if side == "right" else (f"{a}\n", b) for a, b in zip(TEXTS, PAIRS, strict=True)]
    expected = [of(*pair, truncation="longest_first", max_length=length)["input_ids"] for pair in asked]
    assert rows_of(found) == expected
    whole = [of(f"{a}\n{b}")["input_ids"] for a, b in zip(TEXTS, PAIRS, strict=True)]
    assert found.truncated == sum(len(tokens) > length for tokens in whole)
    assert found.uncut == max(map(len, whole))
    for tokens, kept in zip(whole, rows_of(found), strict=True):
        assert len(tokens) > length or kept == tokens


def test_tokens_of_pairs_that_were_kept_are_found_again(tmp_path: Path) -> None:
    of = tokenizer(CHATML, "<|im_end|>")
    memory = encode(of, pairs(), max_length=12)
    assert [encode(of, pairs(tmp_path), max_length=12).digest() for _ in range(2)] == [memory.digest()] * 2
    assert len(list(tmp_path.glob("tokens/*/about.json"))) == 1
