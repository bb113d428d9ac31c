"""Fixed weights in 4 and 8 bits beside LoRA: how far they are from the whole ones, what is saved, what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from selfdistill_cli import models
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.lora import CONFIG_FILE, save_with_lora
from selfdistill_cli.models.output_layer import catch_inputs
from selfdistill_cli.runs.keys import scientific_settings
from selfdistill_cli.system.files import read_json
from tests.helpers.every_method import refusal
from tests.helpers.runs import composed
from tests.helpers.small_models import SIZES, settings, task
from tests.models.test_language_models import LLAMA, hub_language_model, language_task

if importlib.util.find_spec("bitsandbytes") is None:
    pytest.skip("bitsandbytes is not installed", allow_module_level=True)

LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": "all-linear", "merge": False}
WIDER = {"hidden_size": 64, "intermediate_size": 128}
WIDEST = {"nf4": (1.0 - 0.6961928) / 2, "int8": 0.5 / 127}
"""Half of the widest gap between neighbouring values of the type, of which the largest is 1 (QLoRA, appendix E)."""


def classifier(folder: Path) -> Path:
    loaded = models.load_model(settings("tiny_bert", config=SIZES | WIDER), task(), seed=3)
    loaded.model.bert.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


CASES: dict[str, Any] = {
    "llama": (lambda folder: hub_language_model(folder, "llama", LLAMA | WIDER), language_task),
    "bert": (classifier, task),
}


@pytest.mark.parametrize("how", WIDEST)
@pytest.mark.parametrize("kind", CASES)
def test_the_body_is_rounded_as_far_as_its_type_says_and_comes_back_as_it_was(
    kind: str, how: str, tmp_path: Path
) -> None:
    make, data = CASES[kind]
    cfg = settings(str(make(tmp_path / kind)), lora=LORA, quantization=how)
    loaded = models.load_model(cfg, data(), 0)
    plain = models.load_model(settings(cfg.name), data(), 0).model
    rounded = 0
    for name, module in loaded.model.get_base_model().named_modules():
        weight = getattr(getattr(module, "base_layer", None), "weight", None)
        if weight is None or weight.dtype.is_floating_point:
            continue
        rounded += 1
        whole = plain.get_submodule(name).weight
        found = _plain(weight, how)
        largest = whole.abs().amax(dim=1, keepdim=True) if how == "int8" else whole.abs().max()
        assert ((found - whole).abs() <= 1.1 * WIDEST[how] * largest).all(), name
        assert not torch.equal(found, whole)
    assert rounded == 2 * {"llama": 7, "bert": 6}[kind] + (kind == "bert")  # layers; BERT's pooler
    trained = {name for name, p in loaded.model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trained)

    tokens = torch.arange(3, 12)[None]
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = loaded.model.eval()(tokens).logits
    loaded.model.train()(tokens).logits.sum().backward()  # after an evaluation
    assert all(p.grad is not None and p.grad.any() for p in loaded.model.parameters() if p.requires_grad)
    save_with_lora(loaded.model, cfg, tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in (read_json(tmp_path / "saved" / CONFIG_FILE) or {})
    again = models.load_finished(tmp_path / "saved", data()).model
    assert torch.allclose(again.eval()(tokens).logits, expected, atol=1e-5)
    if kind == "llama":  # what the losses over a vocabulary are given
        hidden = catch_inputs(again, input_ids=tokens)[0]
        head = again.get_output_embeddings().weight
        assert torch.allclose(hidden @ head.T, expected, atol=1e-5)


def _plain(weight: Any, how: str) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit

    if how == "nf4":
        return dequantize_4bit(weight.data, weight.quant_state).float()
    return weight.CB.float() * weight.SCB[:, None] / 127


def test_it_is_science_and_none_is_not() -> None:
    plain = composed("model=smollm2_135m", "model.lora.rank=2")
    assert "quantization" not in scientific_settings(plain)["model"]
    rounded = composed("model=smollm2_135m", "model.lora.rank=2", "model.quantization=nf4")
    assert scientific_settings(rounded)["model"]["quantization"] == "nf4"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=smollm2_135m"], "model.lora.rank=8"),
        (["model=smollm2_135m", "model.lora.rank=2", "model.lora.merge=true"], "model.lora.merge=false"),
        (["model=gpt2", "model.name=own.gguf", "model.lora.rank=2"], "saved merged"),
        (["model=smollm2_135m_q4", "model.lora.rank=2"], "saved merged"),
        (["model=smollm2_135m", "model.lora.rank=2", "runtime.shard=full"], "does not go with runtime.shard=full"),
        (["model=smollm2_135m", "model.lora.rank=2", "sequence=[gsm8k,svamp]"], "starts from the first one's adapter"),
    ],
)
def test_what_it_does_not_go_with_is_refused(words: list[str], said: str) -> None:
    assert said in str(refusal("task=gsm8k", "method=vanilla", "model.quantization=nf4", *words))


def test_an_adapter_is_not_merged_into_rounded_weights(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "adapter_config.json").write_text("{}")
    words = ("task=gsm8k", "method=vanilla", "model=gpt2", "model.lora.rank=2", f"model.name={tmp_path / 'run'}")
    assert "is an adapter" in str(refusal(*words, "model.quantization=nf4"))


def test_without_bitsandbytes_its_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = ("task=gsm8k", "method=vanilla", "model=smollm2_135m", "model.lora.rank=2", "model.quantization=int8")
    assert "needs bitsandbytes: pip install" in str(refusal(*words))


def test_models_that_gain_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="random and small"):
        models.load_model(settings("tiny_llama", lora=LORA, quantization="nf4"), language_task(), 0)


def test_a_model_without_linear_layers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    monkeypatch.setattr(transformers.integrations.bitsandbytes, "replace_with_bnb_linear", lambda model, **_: model)
    monkeypatch.setattr(transformers.integrations, "replace_with_bnb_linear", lambda model, **_: model)
    with pytest.raises(UserError, match="no linear layers that bitsandbytes can round"):
        models.load_model(settings(str(folder), lora=LORA, quantization="int8"), language_task(), 0)


def test_rows_that_are_no_whole_blocks_are_refused_on_a_processor(tmp_path: Path) -> None:
    """If this fails, a newer bitsandbytes may read them rightly: then the refusal can go."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    whole = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    found = dequantize_4bit(*quantize_4bit(whole, quant_type="nf4"))
    assert (found - whole).abs().max() > 2 * WIDEST["nf4"] * whole.abs().max()
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    with pytest.raises(UserError, match="take 32 numbers, no multiple of 64"):
        models.load_model(settings(str(folder), lora=LORA, quantization="nf4"), language_task(), 0)


def test_a_device_that_bitsandbytes_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    folder = hub_language_model(tmp_path / "llama", "llama", LLAMA)
    with pytest.raises(UserError, match="knows no cpu, only cuda"):
        models.load_model(settings(str(folder), lora=LORA, quantization="nf4"), language_task(), 0)
