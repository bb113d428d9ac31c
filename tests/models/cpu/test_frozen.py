"""Weights that are not trained, kept narrow: autocast's own bits, and nothing of it left where they are merged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfdistill_cli import models
from selfdistill_cli.models.cpu.frozen import FrozenLinear, forget_narrow, keep_frozen_narrow
from selfdistill_cli.models.lora import save_with_lora
from tests.helpers.small_models import settings
from tests.models.test_language_models import LLAMA, hub_language_model, language_task


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16, bias=False), nn.Linear(16, 4))
    model[2].requires_grad_(False)
    model[3].requires_grad_(False)
    return model


def trained(model: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """Outputs of a second micro-batch, and the gradients of both."""
    for seed in (1, 2):
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = model(torch.randn(5, 8, generator=torch.Generator().manual_seed(seed)))
        out.float().square().sum().backward()
    return out, [p.grad for p in model.parameters() if p.grad is not None]


def test_outputs_and_gradients_have_the_bits_of_autocast() -> None:
    plain, narrow = layers(), layers()
    keep_frozen_narrow(narrow)
    assert [type(module) for module in narrow] == [nn.Linear, nn.GELU, FrozenLinear, FrozenLinear]
    (expected, their_gradients), (found, gradients) = trained(plain), trained(narrow)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    assert len(gradients) == len(their_gradients) == 2
    assert all(torch.equal(a, b) for a, b in zip(gradients, their_gradients, strict=True))
    assert narrow.state_dict().keys() == plain.state_dict().keys()


def test_without_autocast_nothing_is_rounded() -> None:
    model = layers()
    x = torch.randn(5, 8)
    expected = copy.deepcopy(model)(x)
    keep_frozen_narrow(model)
    trained(model)
    assert torch.equal(model(x), expected)


def test_what_is_forgotten_follows_its_weight_again() -> None:
    model = layers()
    keep_frozen_narrow(model)
    trained(model)
    forget_narrow(model)
    last: Any = model[3]
    last.weight.data.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(torch.randn(5, 8)), last.bias.bfloat16().expand(5, 4))


def test_a_merged_adapter_is_what_was_trained(tmp_path: Path) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "merge": True}
    cfg, tokens = settings(str(folder), lora=lora), torch.arange(3, 12)[None]
    adapted: Any = models.load_model(cfg, language_task(), 0).model
    keep_frozen_narrow(adapted)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            adapted(tokens)
        expected = adapted(tokens).logits
    base: Any = adapted.get_base_model()
    save_with_lora(adapted, cfg, tmp_path / "merged")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        after = base(tokens).logits.float()
    assert torch.allclose(after, expected, atol=0.05)
