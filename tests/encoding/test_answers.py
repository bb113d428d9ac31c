"""Prompts and answers in tokens: what carries loss, padding, cuts, and the mistakes that are named."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_answers
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds.generation import Generation
from selfdistill_cli.kinds.multiple_choice import MultipleChoice
from selfdistill_cli.tasks import Split

WORDS = ["<pad>", "</s>", "how", "many", "apples", "one", "two", "three", "####", "?"]


def tokenizer() -> Any:
    of_words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="?"))
    of_words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=of_words, pad_token="<pad>", eos_token="</s>")


DECODER, ENCODER_DECODER = Form(0, None), Form(0, 0)
PROMPTS, ANSWERS = ["how many apples", "how many"], ["two", "one two three"]


def encoded(form: Form, max_length: int = 32, long_prompts: str = "error") -> AnswerExamples:
    return encode(tokenizer(), form, PROMPTS, ANSWERS, max_length, long_prompts)


def encode(
    with_tokenizer: Any,
    form: Form,
    prompts: list[str],
    answers: list[str],
    max_length: int,
    long_prompts: str = "error",
) -> AnswerExamples:
    settings = OmegaConf.create({"max_length": max_length, "long_prompts": long_prompts})
    return encode_answers(with_tokenizer, form, (prompts, answers), settings, "t, train")


def places(inputs: Any, predicts: Any, name: str = "input_ids") -> list[list[int]]:
    """Of each row, the places where an answer token is predicted; `predicts` counts through all rows."""
    mask = torch.zeros(inputs[name].numel(), dtype=torch.bool)
    mask[predicts] = True
    return [row.nonzero()[:, 0].tolist() for row in mask.view(inputs[name].shape)]


def test_only_answer_tokens_are_predicted() -> None:
    examples = encoded(DECODER)
    inputs, predicts, labels, _ = examples.collate(np.array([0, 1]))
    # Rows lack their last token, the end of sequence: nothing is predicted from it.
    first, second = [2, 3, 4, 6], [2, 3, 5, 6, 7]
    assert inputs["input_ids"].tolist() == [[*first, 0], second]
    assert inputs["attention_mask"].sum(1).tolist() == [4, 5]
    assert labels.tolist() == [6, 1, 5, 6, 7, 1]
    assert places(inputs, predicts) == [[2, 3], [1, 2, 3, 4]]


def test_an_encoder_decoder_reads_the_prompt_and_predicts_the_answer() -> None:
    inputs, predicts, labels, _ = encoded(ENCODER_DECODER).collate(np.array([0, 1]))
    assert inputs["input_ids"].tolist() == [[2, 3, 4], [2, 3, 0]]
    assert inputs["decoder_input_ids"].tolist() == [[0, 6, 0, 0], [0, 5, 6, 7]]
    assert places(inputs, predicts, "decoder_input_ids") == [[0, 1], [0, 1, 2, 3]]
    assert labels.tolist() == [6, 1, 5, 6, 7, 1]


def test_prompts_to_go_on_from_are_padded_on_the_left() -> None:
    assert encoded(DECODER).collate_prompts(np.array([0, 1]))["input_ids"].tolist() == [[2, 3, 4], [0, 2, 3]]


def test_a_closing_token_of_the_tokenizer_does_not_stand_before_the_answer() -> None:
    from tokenizers.processors import TemplateProcessing

    closing = tokenizer()
    closing.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    assert encode(closing, DECODER, PROMPTS, ANSWERS, 32).prompts.row(0).tolist() == [2, 3, 4]
    assert encode(closing, ENCODER_DECODER, PROMPTS, ANSWERS, 32).prompts.row(0).tolist()[-1] == 1


def test_padding_may_be_the_end_of_sequence() -> None:
    examples = encoded(Form(1, None))
    inputs, predicts, labels, _ = examples.collate(np.array([0, 1]))
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert labels.tolist() == [6, 1, 5, 6, 7, 1]  # the true end carries loss, the padding none
    assert sum(map(len, places(inputs, predicts))) == 6


def test_a_prompt_that_leaves_no_room_is_an_error_or_loses_its_beginning() -> None:
    with pytest.raises(UserError, match=r"1 of 2 prompts leave no room .* row 0: 3 tokens"):
        encoded(DECODER, max_length=3)
    many = (["how many apples"] * 2, ["one", "two"])
    cut = encode(tokenizer(), ENCODER_DECODER, *many, 2, "cut")
    assert cut.prompts.row(0).tolist() == [3, 4]
    assert cut.truncated == 2


def test_a_prompt_that_is_cut_leaves_its_answer_whole() -> None:
    prompts = ["how many apples how many", "how many", "how many apples", "many many many"]
    answers = ["one two", "one", "one", "one two three one two three"]
    cut = encode(tokenizer(), DECODER, prompts[:3], answers[:3], 4, "cut")
    assert [cut.prompts.row(row).tolist() for row in range(3)] == [[3], [2, 3], [3, 4]]
    assert [cut.answers.row(row).tolist() for row in range(3)] == [[5, 6, 1], [5, 1], [5, 1]]
    assert (cut.truncated, cut.uncut) == (2, 8)
    with pytest.raises(UserError, match="1 of 4 answers do not fit"):  # an answer that never fits
        encode(tokenizer(), DECODER, prompts, answers, 4, "cut")


def test_choices_to_one_prompt_stand_behind_the_same_part_of_it() -> None:
    prompts, answers = [*["how many apples"] * 2, *["many many apples"] * 2], ["one", "one two", "one", "two"]
    cut = encode(tokenizer(), DECODER, prompts, answers, 4, "cut")
    assert [cut.prompts.row(row).tolist() for row in range(4)] == [[4], [4], [3, 4], [3, 4]]
    assert cut.truncated == 4


def test_cut_answers_are_counted_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    prompts, answers = ["how many"] * 40, ["one"] * 38 + ["one two three"] * 2
    with caplog.at_level(logging.WARNING):
        examples = encode(tokenizer(), DECODER, prompts, answers, 5)
    assert "2 of 40 answers are cut off" in caplog.text
    assert examples.truncated == 2
    assert examples.answers.row(39).tolist() == [5, 6, 7]  # no end of sequence
    assert examples.answers.row(0).tolist() == [5, 1]
    with pytest.raises(UserError, match="3 of 40 answers do not fit"):
        encode(tokenizer(), DECODER, prompts, answers[1:] + answers[-1:], 5)


@pytest.mark.parametrize(("prompt", "answer", "what"), [("how", " ", "the answer"), ("", "one", "the prompt")])
def test_nothing_to_learn_or_to_answer_is_an_error(prompt: str, answer: str, what: str) -> None:
    with pytest.raises(UserError, match=f"row 1: {what} has no tokens"):
        encode(tokenizer(), DECODER, ["how", prompt], ["one", answer], 32)


@pytest.mark.parametrize(
    ("texts", "answer", "says"),
    [
        (["how", ""], "one", "t, row 31: the prompt has no tokens"),
        (["how", "how many apples"], "one", r"prompts leave no room .* \(the first in row 31: 3 tokens"),
        (["how", "how"], " ", "t, row 31: the answer has no tokens"),
    ],
)
def test_messages_name_the_row_of_the_file(texts: list[str], answer: str, says: str) -> None:
    split = Split("train", "train", texts, None, np.zeros(2, np.int64), np.array([5, 31]), answers=["one", answer])
    settings = OmegaConf.create({"max_length": 3, "long_prompts": "error"})
    with pytest.raises(UserError, match=says):
        Generation().in_tokens(tokenizer(), DECODER, split, settings, "t")
    choices = replace(split, role="validation", choices=[["one", "two", "three"], ["one", answer]])
    with pytest.raises(UserError, match=says):
        MultipleChoice().in_tokens(tokenizer(), DECODER, choices, settings, "t")
    added = replace(split, rows=np.array([5, -1]))
    with pytest.raises(UserError, match=says.replace("row 31", r"task\.added")):
        Generation().in_tokens(tokenizer(), DECODER, added, settings, "t")


def test_the_digest_knows_where_prompts_end() -> None:
    one = encode(tokenizer(), DECODER, ["how many"], ["one two"], 32)
    other = encode(tokenizer(), DECODER, ["how many one"], ["two"], 32)
    assert torch.equal(one.collate(np.array([0]))[0]["input_ids"], other.collate(np.array([0]))[0]["input_ids"])
    assert one.digest() != other.digest()
