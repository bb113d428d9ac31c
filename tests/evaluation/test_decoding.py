"""Written answers: they end at the end of sequence, whatever stands beside them in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from selfdistill_cli.encoding.answers import AnswerExamples, Form, encode_answers
from selfdistill_cli.encoding.chat import opening
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.compute import counting
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.decoding import (
    _read,
    batching_of_writing,
    keep_generation_settings,
    require_room,
    write_answers,
)
from tests.encoding.test_chat import THOUGHTLESS
from tests.encoding.test_chat import tokenizer as chat_tokenizer
from tests.helpers.runtimes import cpu_runtime

pytestmark = pytest.mark.thorough

SIZE = 40
PROMPTS = [" ".join(f"w{(7 * i + j) % SIZE}" for j in range(1 + i % 9)) for i in range(20)]


def tokenizer() -> Any:
    words = {"<pad>": 0, "</s>": 1} | {f"w{i}": i + 2 for i in range(SIZE)}
    of_words = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    of_words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=of_words, pad_token="<pad>", eos_token="</s>")


def make(kind: str) -> tuple[Any, AnswerExamples]:
    torch.manual_seed(1)
    if kind == "decoder":
        sizes: dict[str, Any] = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
        model: Any = LlamaForCausalLM(
            LlamaConfig(vocab_size=SIZE + 2, **sizes, pad_token_id=0, eos_token_id=1, initializer_range=0.5)
        )
    else:
        sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "initializer_factor": 3.0}
        model = T5ForConditionalGeneration(T5Config(vocab_size=SIZE + 2, **sizes, decoder_start_token_id=0))
    form = Form(0, None if kind == "decoder" else 0)
    return model, encode_answers(
        tokenizer(),
        form,
        (PROMPTS, ["w1"] * len(PROMPTS)),
        OmegaConf.create({"max_length": 64, "long_prompts": "error"}),
        "t",
    )


def written(model: Any, examples: AnswerExamples, budget: int = 4096, seed: int = 0, **decoding: Any) -> list[str]:
    settings = OmegaConf.create({"max_new_tokens": 12, "num_beams": 1, "temperature": 0.0} | decoding)
    return write_answers(model, tokenizer(), examples, settings, cpu_runtime(budget), seed).texts


def by_hand(model: Any, examples: AnswerExamples, row: int) -> str:
    """The likeliest token, one after the other, without cache, batch or library."""
    prompt = torch.from_numpy(examples.prompts.row(row)).long()[None]
    encoder_decoder = examples.form.decoder_start is not None
    answer = torch.zeros(1, 1 if encoder_decoder else 0, dtype=torch.long)
    new: list[int] = []
    while len(new) < 12:
        with torch.no_grad():
            if encoder_decoder:
                logits = model(input_ids=prompt, decoder_input_ids=answer).logits
            else:
                logits = model(input_ids=torch.cat([prompt, answer], 1)).logits
        token = int(logits[0, -1].argmax())
        if token == 1:
            break
        new.append(token)
        answer = torch.cat([answer, torch.tensor([[token]])], 1)
    return tokenizer().decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_texts_are_the_likeliest_tokens_up_to_the_end_whatever_the_batch(kind: str) -> None:
    model, examples = make(kind)
    model.eval()
    expected = [by_hand(model, examples, row) for row in range(len(examples))]
    assert len(set(expected)) > 5
    for budget in (4096, 30, 1):
        assert written(model, examples, budget) == expected


def test_writing_stops_at_the_end_of_sequence() -> None:
    model, examples = make("decoder")

    def always(token: int) -> None:
        bias = torch.nn.functional.one_hot(torch.tensor(token), SIZE + 2).float()
        model.lm_head.weight.data.zero_()
        model.lm_head.bias = torch.nn.Parameter(bias)

    always(4)
    assert written(model, examples, max_new_tokens=3) == ["w2 w2 w2"] * len(examples)
    always(1)
    assert written(model, examples, max_new_tokens=3) == [""] * len(examples)


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
@pytest.mark.parametrize("budget", [4096, 8])
def test_tokens_ends_and_costs_of_what_is_written(kind: str, budget: int) -> None:
    """Tokens decode to the texts; an answer without its end is as long as it may be; prompts are forwarded once."""
    model, examples = make(kind)
    runtime = cpu_runtime(budget)
    settings = OmegaConf.create({"max_new_tokens": 12, "num_beams": 1, "temperature": 0.0})
    with counting(True) as everything:
        found = write_answers(model, tokenizer(), examples, settings, runtime, seed=0)
    assert [tokenizer().decode(tokens, skip_special_tokens=True) for tokens in found.tokens] == found.texts
    assert all(ended or len(tokens) == 12 for tokens, ended in zip(found.tokens, found.ended, strict=True))
    assert set(found.ended) == ({True, False} if kind == "decoder" else {False})
    cost = runtime.compute.parts["evaluation"]
    new = sum(len(tokens) + ended for tokens, ended in zip(found.tokens, found.ended, strict=True))
    assert (cost.forward, cost.backward) == (len(examples), 0)
    assert cost.tokens == examples.prompts.lengths.sum() + new
    assert cost.flops is not None
    assert 0.3 < cost.flops / everything.get_total_flops() <= 1.2  # a batch goes on until its last answer has ended


def test_drawn_texts_follow_the_seed_and_leave_the_generator_alone() -> None:
    model, examples = make("decoder")
    before = torch.get_rng_state()
    first, again = (written(model, examples, temperature=1.0) for _ in range(2))
    assert first == again
    assert torch.equal(torch.get_rng_state(), before)
    assert first != written(model, examples, temperature=1.0, seed=1)
    assert first != written(model, examples)


@pytest.mark.parametrize("budget", [8, 1])
def test_drawn_texts_are_the_same_in_any_batches(budget: int) -> None:
    model, examples = make("decoder")
    model.double()  # so that no rounding moves a boundary between two tokens
    settings = OmegaConf.create({"max_new_tokens": 12, "num_beams": 1, "temperature": 1.0})
    found = [write_answers(model, tokenizer(), examples, settings, cpu_runtime(size), 0) for size in (4096, budget)]
    assert found[0].texts == found[1].texts


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_a_base_model_prefers_is_not_asked_for(temperature: float) -> None:
    """A least length (as some checkpoints for summaries have) and a choice among few tokens (transformers' default)."""
    model, examples = make("decoder")
    plain = written(model, examples, temperature=temperature)
    model.generation_config.min_length = 30
    model.generation_config.top_k = 1
    assert written(model, examples, temperature=temperature) == plain


@pytest.mark.parametrize(("temperature", "beams"), [(0.0, 1), (0.0, 3), (1.0, 1), (1.0, 3)])
def test_a_base_models_own_settings_do_not_hinder_saving(temperature: float, beams: int, tmp_path: Path) -> None:
    model, _ = make("decoder")
    own = {"early_stopping": True, "length_penalty": 2.0, "num_beams": 4, "min_p": 0.1, "typical_p": 0.9, "top_k": 5}
    own |= {"top_p": 0.9, "epsilon_cutoff": 1e-4, "eta_cutoff": 1e-4, "repetition_penalty": 1.2, "max_length": 20}
    model.generation_config.update(**own)
    settings = OmegaConf.create({"max_new_tokens": 12, "num_beams": beams, "temperature": temperature})
    keep_generation_settings(model, tokenizer(), settings)
    model.save_pretrained(tmp_path)
    kept = GenerationConfig.from_pretrained(tmp_path)
    assert (kept.num_beams, kept.max_new_tokens, kept.repetition_penalty) == (beams, 12, 1.2)


def test_what_a_chat_format_begins_answers_with_is_no_part_of_their_texts() -> None:
    of = chat_tokenizer(THOUGHTLESS, "<|im_end|>", "<|im_start|>")
    said = ["<think>\n\n</think>\n\n Four.", "Four.", "<think>\nTwo and two.\n</think>\n\nFour.", "<think>\n\n</think>"]
    written = [of(text, add_special_tokens=False)["input_ids"] for text in said]
    found = _read(written, of, opening(of))
    assert found.texts == ["Four.", "Four.", said[2], ""]
    assert found.tokens == written


def test_training_mode_is_restored() -> None:
    model, examples = make("decoder")
    model.train()
    written(model, examples)
    assert model.training


def test_a_context_without_room_for_an_answer_is_refused() -> None:
    model, examples = make("decoder")
    decoding = OmegaConf.create({"max_new_tokens": 60})
    require_room(examples, model.config, decoding, "t")
    model.config.max_position_embeddings = 64
    with pytest.raises(UserError, match=r"longest prompt has 9 tokens.*max_new_tokens=60 .* context of 64"):
        require_room(examples, model.config, decoding, "t")


def forwarded(model: Any, examples: AnswerExamples, budget: int) -> tuple[Any, list[list[tuple[int, int]]]]:
    """What is written, and of each batch the shapes of the tokens [rows, columns] of its forward passes."""
    batches: list[list[tuple[int, int]]] = []
    generate = model.generate

    def begin(**arguments: Any) -> Any:
        batches.append([])
        return generate(**arguments)

    def record(_module: Any, _args: Any, arguments: dict[str, Any]) -> None:
        rows, columns = arguments["input_ids"].shape
        batches[-1].append((rows, columns))

    model.generate = begin
    handle = model.register_forward_pre_hook(record, with_kwargs=True)
    settings = OmegaConf.create({"max_new_tokens": 12, "num_beams": 1, "temperature": 0.0})
    found = write_answers(model, tokenizer(), examples, settings, cpu_runtime(budget), seed=0)
    handle.remove()
    return found, batches


@pytest.mark.parametrize("budget", [4096, 8, 1])
def test_each_token_is_forwarded_once_in_batches_of_like_lengths_until_all_have_ended(budget: int) -> None:
    model, examples = make("decoder")
    found, batches = forwarded(model, examples, budget)
    longest_first = (-examples.prompts.lengths).argsort(kind="stable")
    place, needed = 0, []
    for passes in batches:
        rows, width = passes[0]
        batch = longest_first[place : place + rows]
        assert width == examples.prompts.lengths[batch].max() == examples.prompts.lengths[batch[0]]
        needed.append(max(len(found.tokens[i]) + found.ended[i] for i in batch))
        assert passes[1:] == [(rows, 1)] * (needed[-1] - 1)  # one new token each: the rest is in the cache
        place += rows
    assert place == len(examples)
    assert (len(batches) > 1) == (budget < 4096)
    assert min(needed) < 12 or budget > 1  # some ended early, and were left then


@pytest.mark.parametrize(
    ("layers", "heads", "kv_heads", "size", "budget"),
    [
        (2, 4, 2, 8, 4 * 4096),  # small: four times as many tokens
        (30, 9, 3, 64, 11_650),  # SmolLM2-135M: 46,080 bytes a token, so 23,301 of them in 1 GiB
        (32, 32, 32, 128, 4096),  # LLaMA of 7B: no more than other predictions take
    ],
)
def test_batches_of_writing_are_as_large_as_their_cache_allows(
    layers: int, heads: int, kv_heads: int, size: int, budget: int
) -> None:
    sizes = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
    config = LlamaConfig(hidden_size=heads * size, **sizes)
    assert batching_of_writing(config, Batching(4096)).token_budget == budget


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_configurations_of_older_families_are_read_as_well(kind: str) -> None:
    """Two layers, two heads of eight numbers each, keys and values of four bytes: 256 bytes a token."""
    config = {
        "gpt2": GPT2Config(n_layer=2, n_head=2, n_embd=16),
        "t5": T5Config(num_layers=2, num_heads=2, d_model=16, d_kv=8),
    }[kind]
    assert batching_of_writing(config, Batching(2**30)).token_budget == 2**30
    assert batching_of_writing(config, Batching(2**20)).token_budget == 2**30 // 256 // 2


def test_a_model_without_attention_keeps_the_budget() -> None:
    assert batching_of_writing(MambaConfig(), Batching(4096)) == Batching(4096)
