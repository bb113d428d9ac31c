"""Weights rounded once for many products: the outputs of autocast bit by bit, and the model as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from selfdistill_cli.engine.forwards import with_weights
from selfdistill_cli.models.cpu.products import weights_rounded


def model() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes, tie_word_embeddings=True)).eval()


TOKENS = torch.arange(12).view(2, 6)


def logits(of: Any) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found: torch.Tensor = of(TOKENS).logits
    return found


def test_outputs_are_those_of_autocast_and_the_model_is_itself_again() -> None:
    of = model()
    expected, own = logits(of), dict(of.named_parameters(remove_duplicate=False))
    with weights_rounded(of, torch.bfloat16):
        linear = [layer.weight.dtype for layer in of.modules() if isinstance(layer, nn.Linear)]
        assert set(linear) == {torch.bfloat16}
        assert of.get_input_embeddings().weight.dtype is torch.float32  # tied, and no product
        assert torch.equal(logits(of), expected)
    after = dict(of.named_parameters(remove_duplicate=False))
    assert after.keys() == own.keys()
    assert all(after[name] is own[name] for name in own)
    assert of.lm_head.weight is of.get_input_embeddings().weight


def test_other_weights_that_a_model_computes_with_are_rounded_and_left_alone() -> None:
    of = model()
    others = {name: weight.detach() * 1.5 for name, weight in of.named_parameters()}
    expected = with_weights(of, others, logits)

    def within(computing: Any) -> torch.Tensor:
        with weights_rounded(computing, torch.bfloat16):
            return logits(computing)

    assert torch.equal(with_weights(of, others, within), expected)
    assert not torch.equal(logits(of), expected)


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    of = model()
    own = [layer.weight for layer in of.modules() if isinstance(layer, nn.Linear)]
    with pytest.raises(KeyError), weights_rounded(of, torch.bfloat16):
        raise KeyError
    assert all(a is b for a, b in zip([m.weight for m in of.modules() if isinstance(m, nn.Linear)], own, strict=True))
