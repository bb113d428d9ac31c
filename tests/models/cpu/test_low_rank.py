"""Layers with a low-rank update, computed as one: the outputs and gradients of peft's own."""

from __future__ import annotations

import copy
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.compute import Operations
from selfdistill_cli.models.cpu.dropout import LEVELS
from selfdistill_cli.models.cpu.low_rank import LowRankLinear, _LowRank
from selfdistill_cli.models.cpu.tuning import TUNINGS, tune


def adapted(dropout: float = 0.0, **settings: Any) -> Any:
    """Two layers, the second with a bias, both with an update that is not zero."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(12, 24, bias=False), nn.GELU(), nn.Linear(24, 6))
    lora = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["0", "2"], **settings)
    model = peft.get_peft_model(layers, lora)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return model.train()


def as_peft_computes(model: nn.Module) -> Any:
    """All that makes it fast but the layers of this file."""
    for name, apply in TUNINGS.items():
        if name != "low_rank":
            apply(model)
    return model


def fused(model: nn.Module) -> list[LowRankLinear]:
    return [module for module in model.modules() if isinstance(module, LowRankLinear)]


def outputs_and_gradients(model: nn.Module, autocast: bool = False) -> list[Tensor]:
    """Of a batch [2, 5, 12], that of the input among them."""
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = model(x)
    (out.float() * torch.sin(torch.arange(60.0)).view(2, 5, 6)).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert x.grad is not None
    return [out.detach(), x.grad, *gradients]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("autocast", [False, True])
def test_outputs_gradients_and_draws_are_those_of_peft(dropout: float, autocast: bool) -> None:
    theirs, ours = as_peft_computes(adapted(dropout)), adapted(dropout)
    tune(ours)
    assert len(fused(ours)) == 2
    expected, found = outputs_and_gradients(theirs, autocast), outputs_and_gradients(ours, autocast)
    assert len(expected) == len(found) == 6
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        assert torch.allclose(a, b, rtol=0.02 if autocast else 1e-5, atol=(0.02 if autocast else 1e-6) * float(a.abs().max()))  # fmt: skip
    assert theirs.state_dict().keys() == ours.state_dict().keys()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_input_may_lie_in_memory_as_it_likes(dropout: float) -> None:
    """As Longformer's attention gives it."""
    theirs, ours = as_peft_computes(adapted(dropout)), adapted(dropout)
    tune(ours)
    x = torch.randn(5, 2, 12).transpose(0, 1)
    found = []
    for model in (theirs, ours):
        torch.manual_seed(2)
        found.append(model(x))
    assert torch.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("biased", [False, True])
def test_an_update_below_the_rounding_of_an_output_is_not_lost_in_bfloat16(biased: bool) -> None:
    """On average over many outputs, its whole contribution is there; likewise in the gradient of the input."""
    torch.manual_seed(0)
    narrow = {name: torch.randn(shape).bfloat16() for name, shape in {"x": (512, 96), "g": (512, 128)}.items()}
    x, weight = narrow["x"].clone().requires_grad_(), (torch.randn(128, 96) / 10).bfloat16()
    bias = torch.randn(128) if biased else None
    a, b = (torch.randn(8, 96) / 10, torch.randn(128, 8) * 2e-4)
    out = _LowRank.apply(x, weight, bias, a, b, 1.0, LEVELS)
    (gradient,) = torch.autograd.grad(out, x, narrow["g"])

    def share(found: Tensor, base: Tensor, update: Tensor) -> float:
        return float(((found.detach().float() - base) * update).sum() / update.square().sum())

    update = b @ a
    base = narrow["x"].float() @ weight.float().T + (0.0 if bias is None else bias)
    assert share(out, base, narrow["x"].float() @ update.T) == pytest.approx(1, abs=0.1)
    assert share(gradient, narrow["g"].float() @ weight.float(), narrow["g"].float() @ update) == pytest.approx(
        1, abs=0.1
    )


@pytest.mark.parametrize("kept", [LEVELS, LEVELS // 2])
def test_gradients_are_those_of_small_steps(kept: int) -> None:
    torch.manual_seed(0)
    shapes = {"x": (2, 3, 5), "a": (2, 5), "b": (4, 2)}
    x, a, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes.values())
    weight, bias = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def layer(x: Tensor, a: Tensor, b: Tensor) -> Any:
        torch.manual_seed(3)  # the same elements are dropped each time
        return _LowRank.apply(x, weight, bias, a, b, 1.5, kept)

    assert torch.autograd.gradcheck(layer, (x, a, b))
    expected = x @ weight.T + bias + 1.5 * x @ a.T @ b.T
    assert torch.allclose(layer(x, a, b), expected) == (kept == LEVELS)


def test_all_products_are_counted() -> None:
    theirs, ours = as_peft_computes(adapted()), adapted()
    tune(ours)
    counts = []
    for model in (theirs, ours):
        with Operations() as counter:
            outputs_and_gradients(model)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_without_its_update_or_merged_it_is_the_layer_below() -> None:
    model = adapted()
    plain = copy.deepcopy(model)
    tune(model)
    x = torch.randn(3, 12)
    with model.disable_adapter(), plain.disable_adapter():
        assert torch.equal(model(x), plain(x))
    expected = model(x)
    with model.disable_adapter():
        assert not torch.allclose(model(x), expected, atol=0.1)
    assert torch.allclose(model.eval()(x), plain.eval()(x), atol=1e-6)
    assert torch.allclose(model.merge_and_unload()(x), expected, atol=1e-5)


@pytest.mark.parametrize("other", [{"use_dora": True}, {"lora_bias": True}])
def test_updates_of_another_kind_are_left_to_peft(other: dict[str, bool]) -> None:
    theirs, ours = as_peft_computes(adapted(**other)), adapted(**other)
    tune(ours)
    for a, b in zip(outputs_and_gradients(theirs), outputs_and_gradients(ours), strict=True):
        assert torch.equal(a, b)


def test_weights_that_are_trained_keep_their_layer() -> None:
    model = adapted()
    model.base_model.model[0].base_layer.weight.requires_grad_(True)
    tune(model)
    assert len(fused(model)) == 1
