"""Chat formats: the tokens that the tokenizer's own rendering gives, and loss on the answer and the end of its turn."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_answers, encode_prompts
from selfdistill_cli.encoding.chat import as_chat, opening
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS
from selfdistill_cli.runs.keys import run_key
from tests.helpers.runs import composed

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "<bos>{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PROMPTS = ["How many apples?", "Why\nnot two lines? "]
ANSWERS = [" Four.\n#### 4", "Because."]
CHAT = Form(0, None, chat=True)


def tokenizer(template: str, end: str, *others: str) -> Any:
    """Byte pairs that know the markers of a chat format, and put one at the beginning of a plain text."""
    of_bytes = Tokenizer(models.BPE())
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<bos>", end, *others]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    of_bytes.train_from_iterator([*PROMPTS, *ANSWERS, "assistant user model"], trainer)
    of_bytes.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 1)]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=of_bytes, pad_token="<pad>", bos_token="<bos>", eos_token=end)
    made.add_special_tokens({"additional_special_tokens": list(others)})
    made.chat_template = template
    return made


def encoded(of: Any, form: Form = CHAT) -> AnswerExamples:
    settings = OmegaConf.create({"max_length": 120, "long_prompts": "error"})
    return encode_answers(of, form, (PROMPTS, ANSWERS), settings, "t, train")


@pytest.mark.parametrize(
    ("template", "end", "others", "closing"),
    [
        (CHATML, "<|im_end|>", ["<|im_start|>"], []),
        # The end of a turn is not the end of sequence: the model learns both, the second one ends what it writes.
        (GEMMA, "<eos>", ["<start_of_turn>", "<end_of_turn>"], ["<eos>"]),
    ],
)
def test_tokens_are_those_of_the_tokenizers_own_rendering(
    template: str, end: str, others: list[str], closing: list[str]
) -> None:
    of = tokenizer(template, end, *others)
    examples = encoded(of)
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer.strip()}]
        asked = of.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
        whole = of.apply_chat_template(turns, return_dict=False)
        assert examples.prompts.row(row).tolist() == asked
        learned = [*asked, *examples.answers.row(row).tolist()]
        newline = of("\n", add_special_tokens=False)["input_ids"]
        assert whole[-1:] == newline  # behind the turn, and not learned
        assert learned == whole[:-1] + of.convert_tokens_to_ids(closing)


def test_a_heading_that_a_model_would_have_to_write_is_refused_whichever_row_shows_it() -> None:
    headed = CHATML.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "")
    of = tokenizer(headed, "<|im_end|>", "<|im_start|>")
    with pytest.raises(UserError, match="add_generation_prompt"):
        as_chat(of, PROMPTS, ["", "Because."])


THOUGHTLESS = CHATML.replace(
    "{{ message['content'] }}",
    "{% if message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
)
"""Begins every answer with empty thoughts, as the format of models does that can think and are not to."""


def test_what_begins_every_answer_is_learned_and_known() -> None:
    of = tokenizer(THOUGHTLESS, "<|im_end|>", "<|im_start|>")
    asked, answered = as_chat(of, PROMPTS, ANSWERS)
    assert as_chat(of, PROMPTS)[0] == asked
    assert all(prompt.endswith("assistant\n") for prompt in asked)
    assert answered == ["<think>\n\n</think>\n\nFour.\n#### 4", "<think>\n\n</think>\n\nBecause."]
    assert opening(of) == "<think>\n\n</think>"
    assert opening(tokenizer(CHATML, "<|im_end|>", "<|im_start|>")) == ""


def test_a_template_that_writes_the_date_writes_the_same_every_day() -> None:
    dated = (
        "{{ strftime_now('%Y-%m-%d %A') }} {% set day = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}{{ day }}\n"
        + CHATML
    )
    of = tokenizer(dated, "<|im_end|>", "<|im_start|>")
    assert as_chat(of, PROMPTS)[0][0].startswith("2024-07-26 Friday 26 Jul 2024\n")


def test_a_prompt_alone_is_the_same_as_before_its_answer() -> None:
    of = tokenizer(CHATML, "<|im_end|>", "<|im_start|>")
    alone = encode_prompts(of, CHAT, PROMPTS, OmegaConf.create({"max_length": 120, "long_prompts": "error"}), "t")
    assert alone.prompts.tokens.tolist() == encoded(of).prompts.tokens.tolist()


def test_the_format_is_used_where_answers_are_written_and_there_is_one() -> None:
    cfg = composed("task=synth_arithmetic", "model=tiny_llama")
    of = tokenizer(CHATML, "<|im_end|>", "<|im_start|>")
    kind: Any = KINDS["generation"]
    assert kind.in_chat_format(cfg.task, of)
    cfg.task.chat_template = "off"
    assert not kind.in_chat_format(cfg.task, of)
    cfg.task.chat_template = "auto"
    of.chat_template = None
    assert not kind.in_chat_format(cfg.task, of)
    assert not kind.in_chat_format(OmegaConf.create({}), of)  # a run of a version that had no such setting
    choosing: Any = KINDS["multiple_choice"]
    assert not choosing.in_chat_format(cfg.task, tokenizer(CHATML, "<|im_end|>", "<|im_start|>"))


def test_it_is_part_of_a_key_only_where_answers_are_written() -> None:
    def key(task: str, value: str) -> str:
        return run_key(composed(f"task={task}", f"task.chat_template={value}"))

    assert key("synth_arithmetic", "auto") != key("synth_arithmetic", "off")
    assert key("synth_entailment", "auto") == key("synth_entailment", "off")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if nonsense", "unexpected end of template|expected token"),
        ("{{ messages[0]['content'] }}", "does not write an answer behind its question"),
    ],
)
def test_a_template_that_fails_is_named_with_the_way_out(template: str, words: str) -> None:
    of = tokenizer(template, "<|im_end|>", "<|im_start|>")
    with pytest.raises(UserError, match=rf"chat template .* fails: .*({words}).*task\.chat_template=off"):
        encoded(of)
