"""The output layer of many architectures: caught inputs and weights give the model's own logits and gradients."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.chunked import logits_of, over_tokens
from selfdistill_cli.losses.vocabulary import LikelihoodsAndMaps
from selfdistill_cli.models.output_layer import catch_inputs, output_layer, require_plain_output

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
BART = {"vocab_size": 60, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
BART |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "llama_tied": SIZES | {"tie_word_embeddings": True},
    "qwen2": SIZES | {"tie_word_embeddings": True},
    "gpt2": {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2},
    "phi": SIZES,  # whose output layer has a bias
    "t5": T5 | {"tie_word_embeddings": True},  # which scales the hidden states when tied
    "bart": BART,  # which adds a bias of zeros after its output layer
}


def make(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model in evaluation mode and a batch for it."""
    torch.manual_seed(0)
    kind = name.removesuffix("_tied")
    config = AutoConfig.for_model(kind, **ARCHITECTURES[name], **SPECIAL)
    batch = {"input_ids": torch.arange(3, 13).view(2, 5), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    if kind in ("t5", "bart"):
        batch["decoder_input_ids"] = torch.arange(3, 9).view(2, 3)
        return AutoModelForSeq2SeqLM.from_config(config).eval(), batch
    return AutoModelForCausalLM.from_config(config).eval(), batch


def slopes(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of all trained parameters."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compare(model: Any, batch: dict[str, torch.Tensor]) -> None:
    """Logits and the gradients of a loss, as the model itself gives them and as we compute them."""
    expected = model(**batch).logits
    inputs, layer = catch_inputs(model, **batch), output_layer(model)
    assert torch.allclose(logits_of(inputs, list(layer.weights), layer.bias), expected, atol=1e-5)  # type: ignore[arg-type]
    labels = torch.arange(expected.shape[0] * expected.shape[1])
    theirs = slopes(model, torch.nn.functional.cross_entropy(expected.flatten(0, 1), labels))
    inputs, layer = catch_inputs(model, **batch), output_layer(model)
    values, _ = over_tokens(
        LikelihoodsAndMaps(labels),
        [one.flatten(0, 1) for one in inputs],
        list(layer.weights),  # type: ignore[arg-type]
        layer.bias,
    )
    ours = slopes(model, values.mean())
    assert ours.keys() == theirs.keys()
    for name, slope in theirs.items():
        assert float((ours[name] - slope).norm()) < 1e-5 * (1 + float(slope.norm())), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_gradients_are_the_models_own(name: str) -> None:
    model, batch = make(name)
    require_plain_output(model, batch)
    compare(model, batch)


@pytest.mark.parametrize("name", ["llama", "llama_tied", "phi"])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_lora_on_the_output_layer_is_a_second_factor(name: str) -> None:
    model, batch = make(name)
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "lm_head"], lora_dropout=0.0)
    adapted = peft.get_peft_model(model, settings)
    with torch.no_grad():
        for parameter in adapted.parameters():  # an update that is not zero
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    assert len(output_layer(adapted).weights) == 2
    require_plain_output(adapted, batch)
    compare(adapted, batch)


def test_dropout_of_lora_is_drawn_in_the_forward_pass() -> None:
    model, batch = make("llama")
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["lm_head"], lora_dropout=0.5)
    adapted = peft.get_peft_model(model, settings).train()
    torch.manual_seed(0)
    first, again = catch_inputs(adapted, **batch), catch_inputs(adapted, **batch)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], again[1])


def test_a_model_that_changes_its_logits_afterwards_is_refused() -> None:
    granite = AutoModelForCausalLM.from_config(AutoConfig.for_model("granite", **SIZES, **SPECIAL, logits_scaling=2.0))
    gemma = AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma2", **SIZES, **SPECIAL, head_dim=16))
    _, batch = make("llama")
    for model in (granite, gemma):
        with pytest.raises(UserError, match="changes its logits"):
            require_plain_output(model, batch)


def test_the_model_is_as_before_afterwards() -> None:
    model, batch = make("llama")
    before = model(**batch).logits
    catch_inputs(model, **batch)
    assert torch.equal(model(**batch).logits, before)
