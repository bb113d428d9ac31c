"""Fixed weights in 4 or 8 bits, beside which LoRA trains (QLoRA, arXiv 2305.14314; LLM.int8(), arXiv 2208.07339).

Linear layers are rounded as they are read, by transformers through bitsandbytes; embeddings, normalisation, the output
layer and a classifier stay as they are. What is saved is the adapter and the name of the weights that it belongs to;
whoever reads it here gets these rounded in the same way.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.models.embedded import EMBEDDED
from selfdistill_cli.system.files import read_json

BLOCK = 64
"""Neighbouring weights that share a scale in 4 bits."""
SAVED_AS = "quantization"
"""In the configuration that lies beside an adapter."""


def require_possible(cfg: DictConfig) -> None:
    """Raise `UserError` unless weights of this name (cfg.model) can be rounded on this device."""
    if cfg.quantization == "none":
        return
    if cfg.name in EMBEDDED:
        raise UserError(
            f"model.quantization={cfg.quantization}: the weights of {cfg.name} are random and small. Leave it out, or name "
            "a pretrained model: model=smollm2_135m, model.name=<folder or Hub id>."
        )
    import bitsandbytes

    kind = _device().type
    if kind not in bitsandbytes.supported_torch_devices:
        able = ", ".join(sorted({"cpu", "cuda", "mps"} & set(bitsandbytes.supported_torch_devices)))
        raise UserError(
            f"model.quantization={cfg.quantization}: the installed bitsandbytes knows no {kind}, only {able}. "
            "runtime.device chooses another."
        )


def _device() -> torch.device:
    """Of this process, which the run's `Accelerator` has chosen."""
    from accelerate import PartialState

    device: torch.device = PartialState().device
    return device


def arguments(quantization: str, model_class: Any, config: Any, dtype: str) -> dict[str, Any]:
    """What `from_pretrained` takes beside others to round the weights (`model.quantization`); nothing of `none`.

    model_class, config: of the model. dtype: of its other weights, and in which its layers multiply.
    """
    if quantization == "none":
        return {}
    how: dict[str, Any] = {"load_in_8bit": True}
    if quantization == "nf4":
        how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        how["bnb_4bit_compute_dtype"] = dtype
    with torch.device("meta"):
        skeleton = model_class.from_config(copy.deepcopy(config))
    return _arguments(how | {"llm_int8_skip_modules": heads(skeleton)}, dtype)


def _arguments(how: dict[str, Any], dtype: str) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    place = {"": _device()}
    return {"quantization_config": BitsAndBytesConfig(**how), "device_map": place, "dtype": getattr(torch, dtype)}


def heads(model: Any) -> list[str]:
    """The names of what a model puts on its body: output layer, classifier."""
    body = getattr(model, model.base_model_prefix, None)
    output = model.get_output_embeddings()
    if body is None or output is not None:
        return [name for name, module in model.named_modules() if module is output]
    return [name for name, module in model.named_children() if module is not body]


def keep_in_place(model: Any) -> Any:
    """The model, its rounded layers kept as they are for training.

    Of a processor with AVX-512 bf16, bitsandbytes packs a 4-bit layer anew when it is first evaluated, and its product
    then has no gradient: a training that goes on after an evaluation would stand still in the layers below.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
    return model


def require_rounded(model: Any, quantization: str) -> None:
    """Raise `UserError` if it was asked for and the model has no layers that can be rounded, or read rightly again.

    On a processor bitsandbytes takes each row of a 4-bit matrix for whole blocks, and mixes up the scales of others.
    """
    if quantization == "none":
        return
    mark = "quant_state" if quantization == "nf4" else "SCB"
    rounded = [module for module in model.modules() if hasattr(getattr(module, "weight", None), mark)]
    if not rounded:
        raise UserError(
            f"model.quantization={quantization}: {type(model).__name__} has no linear layers that bitsandbytes can round. "
            "Leave it out, or choose another model."
        )
    odd = sorted({m.in_features for m in rounded if m.in_features % BLOCK})
    if quantization == "nf4" and odd and _device().type == "cpu":
        raise UserError(
            f"model.quantization=nf4: layers of this model take {odd[0]} numbers, no multiple of {BLOCK}, which bitsandbytes "
            "reads wrongly on a processor. Take model.quantization=int8, or a card."
        )


# --- beside an adapter ----------------------------------------------------------------------------


def config_to_save(config: Any) -> Any:
    """A model's configuration as it lies beside its adapter: of the whole weights, with a note of how they were rounded."""
    rounded = getattr(config, "quantization_config", None)
    if rounded is None:
        return config
    config = copy.deepcopy(config)
    del config.quantization_config
    how = {name: value for name, value in rounded.to_diff_dict().items() if not name.startswith("_")}
    setattr(config, SAVED_AS, how)
    return config


def saved_arguments(file: Path | None) -> dict[str, Any]:
    """What `from_pretrained` takes to round the base as the adapter's run did. file: what `config_to_save` gave."""
    saved = {} if file is None else read_json(file) or {}
    return _arguments(saved[SAVED_AS], saved["dtype"]) if saved.get(SAVED_AS) else {}


def in_snippet(code: str, config: Any) -> str:
    """A model card's Python that loads an adapter, and rounds its base. config: of the model that was trained."""
    how = getattr(config_to_save(config), SAVED_AS, None)
    if how is None:
        return code
    words = ", ".join(f"{name}={value!r}" for name, value in how.items())
    code = re.sub(r"(= AutoPeftModel\w+\.from_pretrained\()folder", r"\1folder, quantization_config=rounded", code)
    line = f"rounded = BitsAndBytesConfig({words})  # as in training; needs bitsandbytes\n"
    return "from transformers import BitsAndBytesConfig\n" + re.sub(
        r"(?m)^(folder = .*\n)", rf"\1{line}", code, count=1
    )
