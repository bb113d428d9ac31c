"""Decoders that read examples one behind the other: the losses and gradients of padded rows, and none for those that mix them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from selfdistill_cli.encoding.answers import AnswerExamples, Form
from selfdistill_cli.encoding.room import Flat
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.models.concatenated import concatenate, model_inputs
from selfdistill_cli.models.cpu.causal import Rows, attention_in_rows
from selfdistill_cli.models.cpu.tuning import tune
from selfdistill_cli.models.output_layer import output_layer

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    **{"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    **{"max_position_embeddings": 64, "initializer_range": 0.3, "pad_token_id": 0},
}
FEWER_KEYS: dict[str, Any] = {**SIZES, "num_key_value_heads": 2}
OF_GPT2: dict[str, Any] = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}
OF_OPT: dict[str, Any] = {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0, "init_std": 0.3}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**FEWER_KEYS)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**FEWER_KEYS)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**OF_GPT2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, hidden_dropout=0, attention_dropout=0)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**{**SIZES, "pad_token_id": 1}, **OF_OPT)),
}
PROMPTS, ANSWERS = (2, 16, 30, 8, 15, 1, 16), (1, 3, 20, 9, 2, 1, 4)


def examples() -> AnswerExamples:
    draw = np.random.default_rng(0)
    prompts, answers = ([draw.integers(3, 50, n).tolist() for n in lengths] for lengths in (PROMPTS, ANSWERS))
    return AnswerExamples(Flat.of(prompts), Flat.of(answers), Form(padding_token=0, decoder_start=None), truncated=0)


def losses_and_gradients(model: Any, rows: AnswerExamples) -> list[torch.Tensor]:
    predictions = rows.forward(model, rows.collate(np.arange(len(rows))), CPU)
    nll = AnswerLosses(lambda: output_layer(model)).nll(predictions)
    model.zero_grad()
    (nll * torch.cos(torch.arange(len(nll)))).sum().backward()
    return [nll.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("tuned", "few_shapes"), [(True, False), (True, True), (False, False)])
def test_losses_and_gradients_are_those_of_padded_rows(family: str, tuned: bool, few_shapes: bool) -> None:
    torch.manual_seed(0)
    theirs = FAMILIES[family]().train()
    ours, rows = copy.deepcopy(theirs), examples()
    if tuned:
        tune(ours)
    assert concatenate(ours, few_shapes)
    tokens = model_inputs(ours, rows.collate(np.arange(7)).arguments, CPU)["input_ids"].shape[1]
    assert tokens == (128 if few_shapes else sum(PROMPTS) + sum(ANSWERS) - 7)  # a row's last token predicts nothing
    expected, found = (losses_and_gradients(model, rows) for model in (theirs, ours))
    assert len(expected) == len(found) > 10
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(a.abs().max())))
    # Not for want of attention: another first token of one prompt changes that one's answer alone.
    rows.prompts.tokens[rows.prompts.offsets[2]] += 1
    changed = losses_and_gradients(ours, rows)[0]
    assert (changed - found[0]).abs().gt(1e-4).tolist() == [row == 2 for row in range(7)]


@pytest.mark.parametrize("few_shapes", [False, True])
def test_attention_in_rows_is_the_formula_for_each_example(few_shapes: bool) -> None:
    torch.manual_seed(0)
    lengths = np.array([5, 1, 40, 16, 5, 33])
    q, k, v = (torch.randn(100, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)

    found = attention_in_rows(q, k, v, Rows.by_length(lengths, few_shapes), attend)
    example = torch.from_numpy(np.repeat(np.arange(6), lengths))
    sees = (example[:, None] == example[None]) & torch.ones(100, 100, dtype=torch.bool).tril()
    scores = (torch.einsum("qhd,khd->hqk", q, k) / 2).masked_fill(~sees, -torch.inf)
    expected = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)
    assert torch.allclose(found, expected)
    weights = torch.cos(torch.arange(found.numel())).view(found.shape)
    ours, theirs = (torch.autograd.grad((each * weights).sum(), (q, k, v)) for each in (found, expected))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


def test_gradient_checkpointing_computes_the_same_again() -> None:
    torch.manual_seed(0)
    model, found = FAMILIES["llama"]().train(), []
    assert concatenate(model)
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        found.append([tensor.clone() for tensor in losses_and_gradients(model, examples())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_answers_are_written_as_before() -> None:
    torch.manual_seed(0)
    model = FAMILIES["llama"]().eval()
    prompts = examples().collate_prompts(np.arange(3))
    before = model.generate(**prompts, max_new_tokens=5, do_sample=False)
    assert concatenate(model)
    assert torch.equal(model.generate(**prompts, max_new_tokens=5, do_sample=False), before)


OTHERS: dict[str, Callable[[], Any]] = {
    "a window": lambda: MistralForCausalLM(MistralConfig(**FEWER_KEYS, sliding_window=8)),
    "windows in some layers": lambda: Gemma2ForCausalLM(Gemma2Config(**FEWER_KEYS, head_dim=8)),
    "convolutions": lambda: Lfm2ForCausalLM(Lfm2Config(**FEWER_KEYS, layer_types=["conv", "full_attention"])),
    "a state": lambda: MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2)),
    "biases of distance": lambda: BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=4)),
    "an encoder": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    ),
    "bf16 weights": lambda: FAMILIES["llama"]().bfloat16(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_cannot_is_given_padded_rows(name: str) -> None:
    torch.manual_seed(0)
    model = OTHERS[name]().eval()
    tune(model)
    before = model.config._attn_implementation
    assert not concatenate(model)
    assert model.config._attn_implementation == before
    assert "layout" not in model_inputs(model, {"input_ids": torch.ones(1, 2)}, CPU)
