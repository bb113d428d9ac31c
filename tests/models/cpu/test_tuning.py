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


def wanted(given: list[torch.Tensor], allowed: torch.Tensor) -> torch.Tensor:
    """softmax(q kᵀ / 2 + mask) v, each key and value of as many queries as there are, [m, L, heads, d]."""
    q, k, v = given
    k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for tensor in (k, v))
    scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~allowed, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize("shared", [False, True], ids=["heads", "shared keys"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_training_does_not_use_the_fused_attention_and_gets_its_values(
    causal: bool, shared: bool, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fused(*_: Any, **__: Any) -> None:
        raise AssertionError("fused attention")

    monkeypatch.setattr("selfdistill_cli.models.cpu.attention.sdpa_attention_forward", fused)
    module: Any = nn.Module().train()
    module.is_causal = causal
    rounded = [tensor.detach() for tensor in heads(torch.bfloat16)]
    if shared:
        rounded[1:] = [tensor[:, :1] for tensor in rounded[1:]]
    given = [tensor.to(torch.float32 if autocast else torch.bfloat16).requires_grad_() for tensor in rounded]
    exact = [tensor.double().requires_grad_() for tensor in rounded]
    allowed = torch.ones(6, 6).tril().bool() if causal else MASK
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        q, k, v = given
        found, _ = attention(module, q, k, v, None if causal else MASK, 0.0, scaling=0.5)
    expected = wanted(exact, allowed)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.double(), expected, atol=0.03)
    ours = torch.autograd.grad(found.double().square().sum(), given)
    theirs = torch.autograd.grad(expected.square().sum(), exact)
    assert all(torch.allclose(a.double(), b, atol=0.15, rtol=0.05) for a, b in zip(ours, theirs, strict=True))


def test_dropout_goes_with_causal_rows_and_shared_keys() -> None:
    module: Any = nn.Module().train()
    module.is_causal = True
    q, k, v = heads()
    k, v = k[:, :1], v[:, :1]
    torch.manual_seed(5)
    found, _ = attention(module, q, k, v, None, 0.3)
    scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~torch.ones(6, 6).tril().bool(), -torch.inf)
    torch.manual_seed(5)
    expected = (dropout(scores.softmax(-1), 0.3) @ v).transpose(1, 2)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("case", ["evaluation", "no dropout", "causal", "groups", "long", "narrow evaluation"])
def test_what_it_does_not_do_is_left_to_the_fused_attention(case: str) -> None:
    module: Any = nn.Module().train("evaluation" not in case)
    module.is_causal = case == "causal"
    module.num_key_value_groups = 2 if case == "groups" else 1
    q, k, v = heads(torch.bfloat16 if case in ("long", "narrow evaluation") else torch.float32)
    if case == "groups":
        k, v = k[:, :1], v[:, :1]
    if case == "long":
        q, k, v = (torch.randn(1, 2, 513, 4, dtype=torch.bfloat16) for _ in range(3))
    mask = None if case in ("causal", "long") else MASK
    rate = 0.0
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
