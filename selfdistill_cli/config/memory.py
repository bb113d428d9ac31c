"""Checks on what makes large models fit: weights in bfloat16 (`model.dtype`), rounded ones (`model.quantization`), parts of
a model (`runtime.shard`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from omegaconf import DictConfig

from selfdistill_cli.config.weights import is_gguf
from selfdistill_cli.errors import UserError, how_to_install


def check_memory(cfg: DictConfig) -> None:
    """Raise `UserError` on what does not go together, or needs a package that is not there."""
    _check_quantization(cfg.model)
    if cfg.model.quantization != "none" and cfg.sequence:
        raise UserError(
            f"model.quantization={cfg.model.quantization} with sequence: the second stage starts from the first one's adapter, and "
            "merging it into rounded weights would round it. Leave one of them out."
        )
    _check_dtype(cfg)
    _check_parts(cfg)


def _check_dtype(cfg: DictConfig) -> None:
    """Refuse gradients in bfloat16 in fp16. LoRA's matrices are float32 whatever the model is, but not a head beside them."""
    if cfg.model.dtype != "bfloat16" or cfg.runtime.precision != "fp16":
        return
    if cfg.model.lora.rank is None or cfg.task.kind not in ("generation", "multiple_choice"):
        raise UserError(
            "runtime.precision=fp16 scales gradients, which torch cannot do for weights in bfloat16 "
            "(model.dtype=bfloat16): take runtime.precision=bf16 or model.dtype=float32."
        )


def _check_quantization(model: DictConfig) -> None:
    """Refuse rounded weights that would be trained themselves, or that nothing here can round."""
    asked = f"model.quantization={model.quantization}"
    if model.quantization == "none":
        return
    if model.lora.rank is None:
        raise UserError(
            f"{asked} keeps the model's own weights fixed, so it needs LoRA beside them: model.lora.rank=8."
        )
    if model.lora.merge:
        raise UserError(
            f"{asked}: merging the update would round it. Take model.lora.merge=false: the adapter is saved."
        )
    if is_gguf(model.name):
        raise UserError(
            f"{asked}: what is trained on a GGUF file is saved merged, and merging would round it. Leave it out, or name "
            "the folder or Hub id of the same model: model.name=<folder or Hub id>."
        )
    folder = Path(model.name).expanduser()
    if any((place / "adapter_config.json").is_file() for place in (folder, folder / "model")):
        raise UserError(
            f"{asked}: model.name={model.name} is an adapter, and merging it into rounded weights would round it. Leave "
            "quantization out, or save that run merged (model.lora.merge=true)."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"{asked} needs bitsandbytes: {how_to_install('quantization')}")


def _check_parts(cfg: DictConfig) -> None:
    """Refuse what does not go with a model in parts."""
    if cfg.runtime.shard == "none":
        return
    if cfg.schedule.optimizer == "adafactor":
        raise UserError(
            "schedule.optimizer=adafactor sums over rows and columns of whole matrices, and runtime.shard=full keeps them "
            "in parts. Take schedule.optimizer=adamw, whose state is shared out as well."
        )
    if cfg.runtime.precision == "fp16":
        raise UserError("runtime.precision=fp16 does not go with runtime.shard=full. Take runtime.precision=bf16.")
    if cfg.runtime.compile:
        raise UserError(
            "runtime.compile=true does not go with runtime.shard=full. Leave one of them out: each layer gathers its "
            "weights where it uses them, and between two of these next to nothing is left to compile."
        )
    if cfg.method.get("demonstration") is not None:
        raise UserError(
            f"method={cfg.method.name} does not go with runtime.shard=full: its teacher's prompts are longer than the "
            "student's, and how often the matrices are gathered for them would differ from process to process."
        )
    if cfg.model.quantization != "none":
        raise UserError(
            f"model.quantization={cfg.model.quantization} does not go with runtime.shard=full. Leave one of them out: "
            "rounded weights fit a card in most cases, and every process then keeps them whole."
        )
