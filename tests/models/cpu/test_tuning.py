"""Attention and memory on a processor: the outputs and gradients of torch's own."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from selfdistill_cli.models.cpu.attention import NAME, attention, pack_attention_dropout
from selfdistill_cli.models.cpu.dropout import dropout
from selfdistill_cli.models.cpu.tuning import tune


def heads(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 2, 6, 4, dtype=dtype, requires_grad=True) for _ in range(3)]


MASK = (torch.arange(6) < torch.tensor([6, 4, 1])[:, None])[:, None, None, :]


@pytest.mark.parametrize(
    "mask", [None, MASK, torch.zeros(3, 1, 1, 6).masked_fill(~MASK, -1e9)], ids=["none", "bool", "added"]
)
def test_attention_with_dropout_is_the_formula(mask: torch.Tensor | None) -> None:
    module = nn.Module().train()
    q, k, v = heads()
    torch.manual_seed(5)
    found, _ = attention(module, q, k, v, mask if mask is None or mask.dtype == torch.bool else mask.double(), 0.3)
    scores = q @ k.transpose(-1, -2) / 2
    if mask is not None:
        scores = scores.masked_fill(~MASK, -torch.inf)
    torch.manual_seed(5)
    expected = (dropout(scores.softmax(-1), 0.3) @ v).transpose(1, 2)
    assert torch.allclose(found, expected)
    ours = torch.autograd.grad(found.square().sum(), (q, k, v))
    theirs = torch.autograd.grad(expected.square().sum(), (q, k, v))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("case", ["evaluation", "no dropout", "causal", "groups"])
def test_what_it_does_not_do_is_left_to_the_fused_attention(case: str) -> None:
    module: Any = nn.Module().train(case != "evaluation")
    module.is_causal = case == "causal"
    module.num_key_value_groups = 2 if case == "groups" else 1
    q, k, v = heads(torch.float32)
    if case == "groups":
        k, v = k[:, :1], v[:, :1]
    mask = None if case == "causal" else MASK
    rate = 0.0 if case in ("no dropout", "evaluation") else 0.3
    torch.manual_seed(0)
    found, _ = attention(module, q, k, v, mask, rate, scaling=0.5)
    torch.manual_seed(0)
    expected, _ = sdpa_attention_forward(module, q, k, v, mask, dropout=rate, scaling=0.5)
    assert torch.equal(found, expected)


def models() -> dict[str, Any]:
    sizes = {"vocab_size": 40, "num_labels": 3, "pad_token_id": 0}
    bert = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, **sizes)
    gpt2 = GPT2Config(n_embd=16, n_layer=2, n_head=2, **sizes)
    return {"bert": BertForSequenceClassification(bert), "gpt2": GPT2ForSequenceClassification(gpt2)}


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_tuned_model_computes_the_same_without_dropout(name: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    theirs = models()[name].eval()
    ours = copy.deepcopy(theirs)
    tune(ours)
    inputs = torch.randint(1, 40, (4, 9))
    mask = (torch.arange(9) < torch.tensor([9, 7, 3, 1])[:, None]).long()
    logits = [model(input_ids=inputs * mask, attention_mask=mask).logits for model in (theirs, ours)]
    assert torch.allclose(logits[0], logits[1], atol=1e-6)
    for output, _model in zip(logits, (theirs, ours), strict=True):
        output.square().sum().backward()
    for (key, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5), key
    # What is saved is the plain model.
    theirs.save_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    assert (tmp_path / "ours" / "config.json").read_text() == (tmp_path / "theirs" / "config.json").read_text()


def test_training_mode_uses_packed_attention_and_its_mean_is_that_of_torch() -> None:
    """Over many draws the mean output under dropout is that of torch's dropout."""
    torch.manual_seed(0)
    theirs = models()["bert"].train()
    ours = copy.deepcopy(theirs)
    tune(ours)
    assert ours.config._attn_implementation == NAME
    assert theirs.config._attn_implementation == "sdpa"
    inputs = torch.randint(1, 40, (2, 9)).expand(2, 2, 9).reshape(4, 9).repeat(500, 1)
    with torch.no_grad():
        draws = [model(input_ids=inputs).logits.view(500, 4, 3) for model in (theirs, ours)]
    difference = (draws[0].mean(0) - draws[1].mean(0)).abs()
    error = (draws[0].var(0) / 500 + draws[1].var(0) / 500).sqrt()
    assert (difference < 5 * error).all()
    assert torch.allclose(draws[0].std(0), draws[1].std(0), rtol=0.2)


def test_attention_of_another_kind_stays() -> None:
    model = models()["bert"]
    model.set_attn_implementation("eager")
    pack_attention_dropout(model)
    assert model.config._attn_implementation == "eager"


@pytest.mark.slow
@pytest.mark.end_to_end
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_not_faulted_in_again() -> None:
    code = """
import resource, sys, torch
from selfdistill_cli.models.cpu.tuning import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    for _ in range(3):
        torch.ones(20_000_000).sum()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(20_000_000).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
"""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    )
    assert kept * 2 < given_back
