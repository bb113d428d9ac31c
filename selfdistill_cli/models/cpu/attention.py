"""Attention in training, for models that attend by scaled dot product.

torch's fused attention for processors knows no dropout; what it falls back on checks every row for being masked
entirely, scales twice, and draws its mask slowly. In bfloat16 its backward pass multiplies in small blocks, without the
processor's instructions for them: on rows that are not long the plain products are faster.
Elsewhere the fused one is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from selfdistill_cli.models.cpu.dropout import dropout as packed_dropout

NAME = "sdpa_packed_dropout"
LONGEST_IN_PLAIN = 512
"""Places of a row, up to which plain products in bfloat16 are faster than fused attention."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """dropout(softmax(q kᵀ · scaling + mask)) v, as Hugging Face models call it.

    query [m, heads, L, d], key and value [m, heads, K, d]; the mask is boolean, true where attention is allowed, or
    is added, and spreads over [m, heads, L, K]. Returns [m, L, heads, d]. Position biases, evaluation, and what has no
    dropout and is in float32 or long, go to `sdpa_attention_forward`.
    """
    causal = attention_mask is None and others.get("is_causal", getattr(module, "is_causal", False))
    biased = others.get("position_bias") is not None
    square = query.shape[2] == key.shape[2]
    plain = dropout > 0 or _narrow_and_short(query, key)
    if not module.training or not plain or biased or (causal and not square):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    if causal:
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    if query.shape[1] != key.shape[1]:
        key, value = (repeat_kv(tensor, query.shape[1] // key.shape[1]) for tensor in (key, value))
    if torch.is_autocast_enabled("cpu"):  # sdpa is on autocast's list of products, its softmax included
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
        if attention_mask is not None:
            if attention_mask.dtype == torch.bool:
                forbidden = torch.zeros_like(attention_mask, dtype=scores.dtype)
                attention_mask = forbidden.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
            scores = scores.add_(attention_mask)
        attended = packed_dropout(scores.softmax(-1), dropout) @ value
    return attended.transpose(1, 2).contiguous(), None


def _narrow_and_short(query: Tensor, key: Tensor) -> bool:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    return dtype == torch.bfloat16 and max(query.shape[2], key.shape[2]) <= LONGEST_IN_PLAIN


def pack_attention_dropout(model: nn.Module) -> None:
    """Let the model's scaled-dot-product attention draw packed masks. Another implementation stays as it is."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa":
            module.config._attn_implementation = NAME
