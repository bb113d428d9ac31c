"""How much memory a run takes on its device, computed from its settings alone: nothing is loaded, and nothing run.

    bytes = weights + gradients + optimizer + method + activations + losses

    weights      b for each parameter: b = 4, or 2 with model.dtype=bfloat16; of a rounded one 1 (int8) or 0.516 (nf4: four
                 bits, one byte of scale for 64 of them, four bytes for 256 scales)
    gradients    b for each trained parameter
    optimizer    2b for each trained parameter (adamw), b (sgd); rows and columns alone (adafactor)
    method       4 for each trained parameter, of a method that keeps another copy of the weights; of one that holds its
                 teacher the weights once more, as if it were of the student's size
    activations  what autograd keeps of one forward pass of `runtime.token_budget` tokens, attention fused, weights cast
                 by autocast among them: the model is run on tensors without memory, and what is saved is added up.
                 With gradient checkpointing a layer's share of it, and every layer's input
    losses       three arrays of a chunk of tokens times the vocabulary, float32, where answers are written

In parts over n processes (`runtime.shard=full`) the first four are divided by n, and the output layer with its gradient
and the largest other matrix with its own are there as a whole. Not counted: what the libraries take themselves (half a
gigabyte of a CUDA card), and the fragments between arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from selfdistill_cli.config.weights import is_gguf
from selfdistill_cli.errors import UserError, first_line, how_to_install
from selfdistill_cli.kinds import kind_of
from selfdistill_cli.losses.chunked import CHUNK_TOKENS
from selfdistill_cli.models.adaptation import set_dropout
from selfdistill_cli.models.embedded import EMBEDDED
from selfdistill_cli.models.lora import lora_settings
from selfdistill_cli.models.output_layer import catch_inputs
from selfdistill_cli.models.quantization import heads
from selfdistill_cli.models.sources import hub_id, resolve
from selfdistill_cli.system.network import use_hub_cache_when_offline
from selfdistill_cli.system.quiet import quiet_libraries

KNOWN = Path(__file__).parent / "architectures.json"
"""Configurations of the models that conf/ names, by Hub id."""
ROUNDED = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
"""Bytes of a weight."""
MOMENTS = {"adamw": 2, "sgd": 1, "adafactor": 0}
FUSED = "sdrun_fused"
"""The name under which transformers finds `_Fused`."""
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    method: float
    activations: float
    losses: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, each.name) for each in fields(self))

    def __str__(self) -> str:
        parts = [(each.name, getattr(self, each.name)) for each in fields(self)]
        return ", ".join(f"{name} {gib(value)}" for name, value in parts if value >= GIB / 1000)


def gib(count: float) -> str:
    """`0.52`, `13.4`: 2^30 bytes, in three figures."""
    value = count / GIB
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def architecture(model: DictConfig) -> Any:
    """The Hugging Face configuration of a model (cfg.model): of its folder, known by its name, or in the Hub's cache.

    Raises `UserError` if there is none here.
    """
    from transformers import AutoConfig

    changes: Any = OmegaConf.to_container(model.config)
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    name = hub_id(model.name)
    if model.name in EMBEDDED:
        config = AutoConfig.for_model(EMBEDDED[model.name], **changes)
    elif name in known:
        config = AutoConfig.for_model(**(known[name] | changes))
    elif is_gguf(name):
        raise UserError(f"the sizes of {name} are not known before it is read")
    else:
        use_hub_cache_when_offline()
        try:
            config = AutoConfig.from_pretrained(resolve(name), trust_remote_code=model.trust_remote_code, **changes)
        except (OSError, ValueError) as error:
            raise UserError(f"no configuration of {name} is here: {first_line(error)}") from error
    set_dropout(config, model.dropout)
    return config


def memory_of(cfg: DictConfig, processes: int = 1) -> Memory:
    """What this run takes on each of so many devices. Raises `UserError` as `architecture` does, and on LoRA that cannot be."""
    quiet_libraries()
    kind, config = kind_of(cfg.task), architecture(cfg.model)
    model_class = kind.model_class(config)
    with torch.device("meta"):
        model = model_class.from_config(config, dtype=getattr(torch, cfg.model.dtype)).train()
        layers = _round(model, cfg.model.quantization)
        if cfg.model.lora.rank is not None:
            model = _with_lora(model, cfg.model, kind.lora_task_type(config))
    with FakeTensorMode():  # of a device with autocast
        _on_processor(model)
        activations = _activations(model, _batch(cfg, config), cfg)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    output = base.get_output_embeddings()
    rounded = {id(layer.weight): layer.weight.numel() for layer in layers}
    plain = [p for p in model.parameters() if id(p) not in rounded]
    trained = [p for p in plain if p.requires_grad]
    numbers = sum(p.numel() for p in trained)
    sizes = [p.shape[0] + p.shape[-1] if p.dim() > 1 else p.numel() for p in trained]  # of Adafactor's means
    moments = MOMENTS[cfg.schedule.optimizer] * _bytes(trained) or 4 * sum(sizes)
    of_rounded = ROUNDED.get(cfg.model.quantization, 0.0) * sum(rounded.values())
    share = processes if cfg.runtime.shard == "full" else 1
    return Memory(
        weights=(_bytes(plain) + of_rounded) / share + (_gathered(plain, output) if share > 1 else 0.0),
        gradients=_bytes(trained) / share + (_gathered(trained, output) if share > 1 else 0.0),
        optimizer=moments / share,
        method=(4 * numbers * _of(cfg.method, "keeps_weights") + _bytes(plain) * _of(cfg.method, "holds_teacher"))
        / share,
        activations=activations,
        losses=0.0 if output is None else 3 * 4 * CHUNK_TOKENS * config.vocab_size,
    )


def _with_lora(model: nn.Module, cfg: DictConfig, task_type: str) -> nn.Module:
    try:
        import peft
    except ImportError:
        raise UserError(f"model.lora needs peft: {how_to_install('lora')}") from None
    try:
        adapted: nn.Module = peft.get_peft_model(model, lora_settings(cfg, task_type))
    except ValueError as error:
        raise UserError(f"model.lora.target_modules={cfg.lora.target_modules}: {first_line(error)}") from error
    return adapted


def memory_in_words(configurations: Sequence[DictConfig]) -> list[str]:
    """What is said of runs: the largest of them on one device, and in parts on several; nothing of no runs."""
    found: dict[str, tuple[Memory, DictConfig]] = {}
    for cfg in configurations:
        key = OmegaConf.to_yaml(
            OmegaConf.create({name: cfg[name] for name in ("model", "task", "schedule", "runtime")})
        )
        of_method = OmegaConf.get_type(cfg.method)
        key += str([getattr(of_method, name, None) for name in ("keeps_weights", "holds_teacher", "forwards")])
        try:
            if key not in found:
                found[key] = memory_of(cfg), cfg
        except UserError as error:
            return [f"memory: not computed, since {error}"]
    if not found:
        return []
    most, cfg = max(found.values(), key=lambda of_one: of_one[0].total)
    of_which = f" ({cfg.model.name}, the largest)" if len(found) > 1 else ""
    lines = [f"memory: about {gib(most.total)} GiB on the device{of_which}, computed from the settings: {most}."]
    if cfg.runtime.shard == "full":
        shares = [f"{gib(memory_of(cfg, processes).total)} on each of {processes}" for processes in (2, 4, 8)]
        lines.append(f"In parts (runtime.shard=full): about {', '.join(shares)}.")
    return lines


def _bytes(parameters: Iterable[Tensor]) -> float:
    return sum(p.numel() * p.element_size() for p in parameters)


def _gathered(parameters: list[nn.Parameter], output: nn.Module | None) -> float:
    """Bytes of the output layer, which is held, and of the largest other matrix, as a layer uses it."""
    held = set() if output is None else {id(p) for p in output.parameters()}
    others = [_bytes([p]) for p in parameters if id(p) not in held and p.dim() > 1]
    return _bytes(p for p in parameters if id(p) in held) + max(others, default=0.0)


def _of(method: DictConfig, name: str) -> bool:
    """Whether this is said of all methods of this class."""
    return bool(getattr(OmegaConf.get_type(method), name, False))


# --- activations ----------------------------------------------------------------------------------


def _batch(cfg: DictConfig, config: Any) -> dict[str, Tensor]:
    """Rows of the greatest length, as many as the token budget and the examples of a step have."""
    length = min(cfg.task.max_length, cfg.runtime.token_budget)
    of_step = cfg.schedule.batch_size * getattr(OmegaConf.get_type(cfg.method), "forwards", 1)
    rows = max(1, min(cfg.runtime.token_budget // length, of_step))
    tokens = torch.zeros(rows, length, dtype=torch.long)
    return {"input_ids": tokens, **({"decoder_input_ids": tokens} if config.is_encoder_decoder else {})}


def _activations(model: Any, batch: dict[str, Tensor], cfg: DictConfig) -> float:
    """Bytes that autograd keeps of a forward pass, beside the model's own."""
    from transformers import AttentionInterface, PreTrainedModel

    AttentionInterface.register(FUSED, _fused)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa":
            module.config._attn_implementation = FUSED
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # alive, so that no other takes its place
        return tensor

    mixed = cfg.runtime.precision != "fp32"
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed), saved_tensors_hooks(keep, lambda tensor: tensor):
        found = catch_inputs(model, **batch) if model.get_output_embeddings() is not None else model(**batch)
        del found
    total = float(sum(storage.nbytes() for storage in kept.values()))
    if not cfg.runtime.gradient_checkpointing:
        return total
    config = model.config
    layers = config.num_hidden_layers * (2 if config.is_encoder_decoder else 1)
    inputs = layers * batch["input_ids"].numel() * config.hidden_size * next(model.parameters()).element_size()
    return total / layers + inputs


class _Fused(torch.autograd.Function):
    """Attention that keeps its inputs and its output, as fused kernels do."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, attended)
        return attended


def _fused(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **_: Any) -> tuple[Tensor, None]:
    return _Fused.apply(query, key, value).transpose(1, 2).contiguous(), None  # type: ignore[no-untyped-call]


class _Rounded(torch.autograd.Function):
    """A rounded linear layer: it keeps nothing beside its own weights."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: int) -> Tensor:
        return inputs.new_empty(*inputs.shape[:-1], outputs)


def _rounded(inputs: Tensor, outputs: int) -> Tensor:
    return _Rounded.apply(inputs, outputs)  # type: ignore[no-untyped-call]


def _round(model: nn.Module, quantization: str) -> list[nn.Linear]:
    """The linear layers that are rounded; they compute as such from now on."""
    if quantization == "none":
        return []
    whole = heads(model)
    rounded = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name not in whole and name.partition(".")[0] not in whole:
            module.requires_grad_(False)
            setattr(module, "forward", partial(_rounded, outputs=module.out_features))  # noqa: B010 - mypy: no method is assigned
            rounded.append(module)
    return rounded


def _on_processor(model: nn.Module) -> None:
    """Give the tensors of a model on the meta device a device that computes in mixed precision."""
    found: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in found:
                    fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                    found[id(parameter)] = nn.Parameter(fake, parameter.requires_grad)
                module._parameters[name] = found[id(parameter)]
        module._buffers |= {
            name: torch.zeros(buffer.shape, dtype=buffer.dtype)
            for name, buffer in module._buffers.items()
            if buffer is not None
        }
