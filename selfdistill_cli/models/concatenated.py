"""Models that read examples one after the other, as one row without padding.

Embeddings, linear layers, normalisation, activations and dropout see each token once, [1, tokens, hidden]; attention
keeps each example to itself. An encoder's last layer asks and goes on for the first token of each, which is all that a
head reads; a decoder's positions begin anew with each example. Nothing of the model's own code is replaced: its attention
is looked up by name, and hooks do the rest. A processor's matter: a card has no such attention with dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from selfdistill_cli.engine.batching import TAKES_CONCATENATED, coarse_total
from selfdistill_cli.engine.transfer import on_device
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.cpu.causal import Rows, attention_in_rows
from selfdistill_cli.models.cpu.groups import Groups, grouped_attention

SUFFIX = "_concatenated"
"""Of the attention function's name: the one that it stands for takes padded rows."""
SHORT = 64
"""Tokens of a micro-batch's longest example up to which an encoder's attention is computed in float32 under bf16: its
products are as fast, and a kernel of bf16 is compiled and kept for each number of rows."""
TOLERANCE = 1e-4
"""Of the difference to padded rows, beside the size of what differs."""


@dataclass(frozen=True)
class Layout:
    """Where each of m examples stands in a row of tokens."""

    lengths: np.ndarray
    """Tokens of each [m], and at the end of what the row is filled up with, if it is."""
    first: Tensor
    """The place of each one's first token [m]."""
    few_shapes: bool = False
    """Whether products of attention are in bf16, and so come in few shapes."""
    causal: bool = False
    """Whether a token attends to those before it alone."""
    last: bool = False
    """Whether it is the last layer's, of which first tokens alone are read."""
    _groups: dict[tuple[int, bool], Groups] = field(default_factory=dict)

    def groups(self, heads: int) -> Groups:
        """For attention with so many heads; the same in every layer but the last."""
        kind = (heads, self.last)
        if kind not in self._groups:
            self._groups[kind] = Groups.by_length(self.lengths, heads, self.few_shapes, first=self.last)
        return self._groups[kind]

    @cached_property
    def rows(self) -> Rows:
        """For a decoder's attention, in every layer."""
        return Rows.by_length(self.lengths, self.few_shapes)


def takes_concatenated(model: nn.Module) -> bool:
    """Whether this model is given examples one behind the other."""
    return getattr(model, TAKES_CONCATENATED, None) is not None


def model_inputs(model: nn.Module, batch: dict[str, Tensor], device: torch.device) -> dict[str, Any]:
    """A batch of padded rows on the CPU as this model takes it: the rows, or their tokens without padding."""
    if takes_concatenated(model):
        return concatenated(model, batch, device)
    return {name: on_device(tensor, device) for name, tensor in batch.items()}


def concatenated(model: nn.Module, batch: dict[str, Tensor], device: torch.device) -> dict[str, Any]:
    """Inputs [m, longest] of padded rows as the model takes them without padding: [1, tokens]. `model` is marked.

    What fills a row up is an example that nobody reads: the first token, over and over.
    """
    how: Concatenation = getattr(model, TAKES_CONCATENATED)
    real = batch["attention_mask"].bool()
    lengths = real.sum(1).numpy()
    first = on_device(torch.from_numpy(np.cumsum(lengths) - lengths), device)
    inputs = {name: tensor[real] for name, tensor in batch.items() if name != "attention_mask"}
    inputs["position_ids"] = how.positions(batch["input_ids"], real)[real]
    few_shapes = how.few_shapes and (how.causal or int(lengths.max()) > SHORT)
    spare = coarse_total(int(lengths.sum())) - int(lengths.sum()) if how.few_shapes else 0
    if spare:
        lengths = np.append(lengths, spare)
        inputs = {name: torch.cat([tensor, tensor[:1].expand(spare)]) for name, tensor in inputs.items()}
    moved: dict[str, Any] = {name: on_device(tensor[None], device) for name, tensor in inputs.items()}
    if how.causal:  # what has four dimensions is taken for a mask that is made already, and handed on as it is
        moved["attention_mask"] = torch.empty(1, 1, 1, 1, device=device)
    return moved | {"layout": Layout(lengths, first, few_shapes, how.causal)}


@dataclass(frozen=True)
class Concatenation:
    """How a model takes examples one behind the other."""

    padding: int | None
    """The row of the table of positions that padding has, as in fairseq: tokens are counted from the next one, those of
    this number left out. None: counted from 0."""
    few_shapes: bool
    """Whether rows are filled up so that few shapes come up, since a kernel is compiled for each."""
    causal: bool = False
    """Whether it is a decoder."""

    def positions(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Numbers of the tokens of padded rows [m, longest], of which some are `real`."""
        if self.padding is None:
            return real.long().cumsum(1) - 1
        counted = (real & (tokens != self.padding)).long()
        return counted.cumsum(1) * counted + self.padding


# --- what is set on a model ------------------------------------------------------------------------


def leave_out_padding(model: Any, asked: str, device: torch.device, few_shapes: bool = False) -> None:
    """Put `runtime.padding` into effect. Raises `UserError` if none is asked for and model or device cannot do without.

    few_shapes: see `Concatenation`.
    """
    if asked == "none" and device.type != "cpu":
        raise UserError(
            "runtime.padding=none: only a processor takes examples one behind the other. Use runtime.padding=auto."
        )
    wanted = asked in ("none", "auto") and device.type == "cpu"
    if wanted and not concatenate(model, few_shapes) and asked == "none":
        raise UserError(
            f"runtime.padding=none: {type(model).__name__} in {model.dtype} cannot take examples one behind the other. "
            "Use runtime.padding=auto, which leaves padding out where it can be."
        )


def concatenate(model: Any, few_shapes: bool = False) -> bool:
    """Let the model take what `concatenated` makes, beside padded rows; whether it can.

    It is tried: a model that gives other predictions that way, or none, is left as it was. Of float32 weights alone,
    where the difference is plain.
    """
    if model.dtype != torch.float32:
        return False
    decoder = _decoder(model)
    base = _with_encoder(model) if decoder is None else decoder
    if base is None:
        return False
    name = base.config._attn_implementation
    hooks = _hooked(base) if decoder is None else []
    base.config._attn_implementation = _registered(name)
    padding = getattr(base.embeddings.position_embeddings, "padding_idx", None) if decoder is None else None
    setattr(model, TAKES_CONCATENATED, Concatenation(padding, few_shapes, causal=decoder is not None))
    if _agrees(model):
        return True
    for hook in hooks:
        hook.remove()
    base.config._attn_implementation = name
    delattr(model, TAKES_CONCATENATED)
    return False


def _decoder(model: Any) -> PreTrainedModel | None:
    """A language model whose tokens look at all that stand before them, without LoRA's wrapping; None: it is another."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    config = base.config
    if base.get_output_embeddings() is None or config.is_encoder_decoder:
        return None
    windows = {"full_attention", *(getattr(config, "layer_types", None) or ())} != {"full_attention"}
    if windows or getattr(config, "sliding_window", None) or "sdpa" not in str(config._attn_implementation):
        return None
    return base if all(m.config is config for m in base.modules() if isinstance(m, PreTrainedModel)) else None


def _with_encoder(model: Any) -> PreTrainedModel | None:
    """The part of a classifier that holds embeddings and layers, if it has the shape of BERT's."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and hasattr(module, "encoder") and hasattr(module, "embeddings"):
            fused = "sdpa" in str(module.config._attn_implementation)
            layers = getattr(module.encoder, "layer", None)
            last = layers[-1] if isinstance(layers, nn.ModuleList) and len(layers) else None
            return module if fused and hasattr(getattr(last, "attention", None), "output") else None
    return None


def _hooked(base: Any) -> list[Any]:
    last = base.encoder.layer[-1]
    return [
        last.attention.register_forward_pre_hook(_note_layout, with_kwargs=True),
        last.attention.output.register_forward_pre_hook(_first_tokens),
        base.encoder.register_forward_hook(_one_row_each, with_kwargs=True),
    ]


def _note_layout(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Not of the layer itself: checkpointing computes a layer's forward pass again, and none of its hooks."""
    layout = attention.output.layout = kwargs.get("layout")
    return args, kwargs if layout is None else kwargs | {"layout": replace(layout, last=True)}


def _first_tokens(output: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """From here to the end of the last layer, every token goes its own way."""
    if output.layout is None:
        return None
    return tuple(x.index_select(1, output.layout.first) for x in args)


def _one_row_each(encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """[1, m, hidden] of first tokens as a head expects them: [m, 1, hidden]."""
    if kwargs.get("layout") is not None:
        output.last_hidden_state = output.last_hidden_state.transpose(0, 1)
    return output


def _registered(name: str) -> str:
    """The name of an attention function that does what `name` does, and takes concatenated examples as well."""
    padded = ALL_ATTENTION_FUNCTIONS[name]

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **others: Any
    ) -> tuple[Tensor, Tensor | None]:
        layout = others.pop("layout", None)
        if layout is None:
            found: tuple[Tensor, Tensor | None] = padded(module, query, key, value, attention_mask, **others)
            return found
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, d]
        if layout.causal:
            return attention_in_rows(q, k, v, layout.rows, lambda *x: padded(module, *x, None, **others)[0])[None], None
        scale, dropout = others.get("scaling") or q.shape[-1] ** -0.5, others.get("dropout", 0.0)
        if not layout.few_shapes:
            q, k, v = (x.float() for x in (q, k, v))
        with torch.autocast("cpu", enabled=False):  # it would cast them back
            attended = grouped_attention(q, k, v, layout.groups(q.shape[1]), scale, dropout)
        return attended[None].to(query.dtype), None

    AttentionInterface.register(name + SUFFIX, attention)
    # Asked each time: `models.masks` puts another in place where there is a card.
    AttentionMaskInterface.register(
        name + SUFFIX, lambda *places, **settings: ALL_MASK_ATTENTION_FUNCTIONS[name](*places, **settings)
    )
    return name + SUFFIX


@torch.no_grad()
def _agrees(model: Any) -> bool:
    """Whether three short examples get the same predictions with padding and without. (What a decoder keeps beside keys and
    values goes from one example on to the next, and is noticed here.)"""
    lengths = torch.tensor([2, 7, 4])
    real = torch.arange(7) < lengths[:, None]
    padding = model.config.pad_token_id or 0
    tokens = torch.where(real, (padding + torch.arange(1, 22).view(3, 7)) % model.config.vocab_size, padding)
    batch = {"input_ids": tokens, "attention_mask": real.long()}
    device = model.device
    was_training = model.training
    model.eval()
    try:
        padded = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        found = model(**concatenated(model, batch, device)).logits
        if getattr(model, TAKES_CONCATENATED).causal:  # logits of each token
            padded, found = padded[real.to(device)], found[0, : int(lengths.sum())]
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False
    finally:
        model.train(was_training)
    return found.shape == padded.shape and torch.allclose(
        found, padded, rtol=TOLERANCE, atol=TOLERANCE * float(padded.abs().max())
    )
