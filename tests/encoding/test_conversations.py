"""Conversations: tokens and the mask of what is learned, against the tokenizer's own rendering; templates that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_conversations, encode_prompts
from selfdistill_cli.encoding.conversations import PLAIN, Conversations, with_format
from selfdistill_cli.errors import UserError
from tests.encoding.test_chat import CHATML, GEMMA, tokenizer

MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{{ '\n' }}"
    "{% else %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML that says itself what the assistant wrote."""
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<bos>[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
"""Without a heading of answers, so without add_generation_prompt."""
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if loop.last or message['role'] == 'user' %}{{ message['content'] }}"
    "{% else %}{{ message['content'].split('</think>')[-1] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Drops earlier thoughts, as reasoning models' templates do."""


def said(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    """A conversation in which user and assistant speak in turn."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


CHATS = [
    said("How many apples?", "Four.", "Why?", "Because\nI counted them, two and two.", "Sure?", "Yes."),
    said("Why\nnot two lines? ", "Because.", system="Be brief."),
    said("Say so.", "  so, with space before"),
]


def encoded(of: Any, chats: list[list[dict[str, str]]] = CHATS, length: int = 200, **settings: Any) -> AnswerExamples:
    asked = {"max_length": length, "long_prompts": "error", "turns": "all"} | settings
    rows = list(range(10, 10 + len(chats)))
    return encode_conversations(of, Form(0, None, True), Conversations(chats, rows), OmegaConf.create(asked), "t")


def whole(examples: AnswerExamples, row: int) -> tuple[list[int], list[bool]]:
    """Tokens of an example, and which of them are learned."""
    assert examples.learned is not None
    span = slice(examples.prompts.offsets[row], examples.prompts.offsets[row + 1])
    answer = examples.answers.row(row).tolist()
    tokens = [*examples.prompts.row(row).tolist(), *answer]
    return tokens, [*examples.learned[span].tolist(), *[True] * len(answer)]


def chatml(template: str = CHATML) -> Any:
    return tokenizer(template, "<|im_end|>", "<|im_start|>")


def test_tokens_and_mask_are_those_of_a_template_that_marks_what_the_assistant_wrote() -> None:
    of = chatml(MARKED)
    examples = encoded(of)
    for row, chat in enumerate(CHATS):
        own = of.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
        tokens, learned = whole(examples, row)
        assert tokens == own["input_ids"][:-1]  # the newline behind the last turn
        assert learned == [bool(one) for one in own["assistant_masks"][:-1]]
    assert encoded(chatml()).digest() == examples.digest()  # a template without marks that renders the same


@pytest.mark.parametrize(
    ("of", "closing", "behind"),
    [
        (chatml(), "<|im_end|>", ""),
        (tokenizer(GEMMA, "<eos>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", "<eos>"),
        (tokenizer(LLAMA_2, "<eos>"), " <eos>", ""),
    ],
    ids=["chatml", "gemma", "llama 2"],
)
def test_every_turn_of_the_assistant_is_learned_with_its_end_and_nothing_else(
    of: Any, closing: str, behind: str
) -> None:
    chat = CHATS[0]
    examples = encoded(of, [chat])
    tokens, learned = whole(examples, 0)
    text = of.apply_chat_template(chat, tokenize=False).rstrip() + behind
    assert tokens == of(text, add_special_tokens=False)["input_ids"]
    runs: list[list[int]] = []
    for place, token in enumerate(tokens):
        if learned[place]:
            runs = runs if place and learned[place - 1] else [*runs, []]
            runs[-1].append(token)
    answers = [turn["content"] + closing for turn in chat if turn["role"] == "assistant"]
    assert [of.decode(run).strip() for run in runs] == [*answers[:-1], answers[-1] + behind]


def test_each_learned_token_is_predicted_from_what_stands_before_it() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=400, **sizes)).eval()
    examples = encoded(chatml())
    assert examples.predicted.tolist() == [sum(whole(examples, row)[1]) for row in range(3)]
    rows = examples.forward(model, examples.collate(np.array([1, 0, 2])), torch.device("cpu"))
    logits = model.lm_head(rows.columns["input0"])
    assert rows.lengths.tolist() == examples.predicted[[1, 0, 2]].tolist()
    place = 0
    for row in (1, 0, 2):
        tokens, learned = whole(examples, row)
        for number in np.flatnonzero(learned):
            alone = model(torch.tensor([tokens[:number]])).logits[0, -1]
            assert rows.columns["labels"][place] == tokens[number]
            torch.testing.assert_close(logits[place], alone, atol=1e-5, rtol=1e-5)
            place += 1
    assert place == len(logits)


def test_the_last_turn_alone_is_learned_where_that_is_asked() -> None:
    examples = encoded(chatml(), turns="last")
    assert examples.learned is not None
    assert not examples.learned.any()
    tokens, _ = whole(examples, 0)
    assert tokens == whole(encoded(chatml()), 0)[0]


def test_a_template_that_changes_earlier_turns_is_refused_with_the_row() -> None:
    of = chatml(THINKING)
    thoughts = said("2 + 2?", "<think>easy</think>4", "And 3 + 3?", "<think>hm</think>6")
    with pytest.raises(UserError, match=r"t, row 11: .* the assistant's turn 1 .*task.turns=last"):
        encoded(of, [CHATS[2], thoughts])
    examples = encoded(of, [CHATS[2], thoughts], turns="last")
    assert of.decode(examples.answers.row(1)) == "<think>hm</think>6<|im_end|>"
    assert "easy" not in of.decode(examples.prompts.row(1))  # as the model will read it
    asked = encode_prompts(of, Form(0, None, True), [thoughts[:-1]], OmegaConf.create({"max_length": 200}), "t")
    assert asked.prompts.row(0).tolist() == examples.prompts.row(1).tolist()
    with_format(of, own=False)
    assert of.decode(encoded(of, [thoughts]).prompts.row(0)).startswith(
        "<bos>User: 2 + 2?\nAssistant: <think>easy</think>4"
    )


def test_without_a_format_a_plain_one_is_taken_and_stays_with_the_tokenizer() -> None:
    of = chatml(CHATML)
    with_format(of, own=True)
    assert of.chat_template == CHATML
    of.chat_template = None
    with_format(of, own=True)
    assert of.chat_template == PLAIN
    tokens, learned = whole(encoded(of, [CHATS[0]]), 0)
    assert of.decode(tokens) == (
        "<bos>User: How many apples?\nAssistant: Four.<|im_end|>\nUser: Why?\nAssistant: Because\nI counted them, two and "
        "two.<|im_end|>\nUser: Sure?\nAssistant: Yes.<|im_end|>"
    )
    ends = [place for place, token in enumerate(tokens) if token == of.eos_token_id]
    assert all(learned[place] for place in ends)
    assert not learned[ends[0] + 1]


def test_a_conversation_that_is_too_long_loses_its_beginning_and_keeps_what_is_learned() -> None:
    of = chatml()
    tokens, learned = whole(encoded(of, [CHATS[0]]), 0)
    answer = len(encoded(of, [CHATS[0]]).answers.tokens)
    with pytest.raises(UserError, match="1 of 1 prompts leave no room"):
        encoded(of, [CHATS[0]], length=30)
    cut = encoded(of, [CHATS[0]], length=30, long_prompts="cut")
    assert (cut.truncated, cut.uncut, cut.longest) == (1, len(tokens), 30)
    kept, mask = whole(cut, 0)
    assert kept == tokens[-30:]
    assert mask[1:] == learned[-29:]
    assert answer < sum(mask)  # an earlier turn is still there
    assert not mask[0]
    assert learned[-30]  # nothing stands before it any more, so it cannot be predicted


@pytest.mark.parametrize("chat", [CHATS[:1], [said("a", "b")]], ids=["long", "short"])
def test_a_template_without_a_beginning_of_answers_is_refused(chat: list[list[dict[str, str]]]) -> None:
    closed = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    with pytest.raises(UserError, match=r"t, row 10: .*takes no add_generation_prompt.*assistant.*chat_template=off"):
        encoded(chatml(closed), chat)


def test_a_template_that_fails_is_named_with_the_row() -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML
    with pytest.raises(UserError, match=r"t, row 11: the chat template .* no system turn"):
        encoded(chatml(strict))
    swallowing = CHATML.replace("{{ message['content'] }}", "{{ message['content'] | upper }}")
    with pytest.raises(UserError, match=r"row 10: .* does not write what the assistant says as it stands"):
        encoded(chatml(swallowing))
