"""Losses over a large vocabulary, a chunk of tokens at a time: [tokens, vocabulary] is never held whole.

Logits are z = Σ_j inputs_j · weights_jᵀ + bias: one pair for an ordinary output layer, two with LoRA on it. The
forward pass keeps only the results; the backward pass makes each chunk's logits again. So they are made twice, which
a loss that is read off a whole answer (its map) needs in any case: its gradient is known only when all is summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_TOKENS = 128
"""Large enough that reading the weights costs less than multiplying by them, small enough to be cheap to hold."""


class ChunkLoss:
    """Values of single tokens, and a sum over tokens, as a function of their logits. Subclasses give `values`."""

    together: int = 1
    """So many tokens, one after the other, stand in one chunk."""

    def values(self, logits: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        """Of a chunk's logits [c, V] and its place among the tokens: token values [c, J], and a part of the sum.

        May overwrite the logits, if `slope` is given as well.
        """
        raise NotImplementedError

    def slope(self, logits: Tensor, span: slice, by_token: Tensor, by_sum: Tensor | None) -> Tensor:
        """The gradient with respect to the chunk's logits [c, V], given those of token values [c, J] and of the sum."""
        with torch.enable_grad():
            leaf = logits.requires_grad_()
            token_values, part = self.values(leaf, span)
            total = (token_values * by_token).sum()
            if part is not None and by_sum is not None:
                total = total + (part * by_sum).sum()
        return torch.autograd.grad(total, leaf)[0]


def over_tokens(
    loss: ChunkLoss, inputs: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """`loss` over all T tokens: its token values [T, J], and its sum (None if it has none).

    inputs: T × k_j each; weights: V × k_j each; bias: [V] or None. All of them receive gradients, and nothing else
    that `loss` uses. Matrix products are in the type of the inputs, what follows in float32 at least.
    """
    token_values, summed = _OverTokens.apply(loss, len(inputs), *inputs, *weights, bias)  # type: ignore[no-untyped-call]
    return token_values, summed


def logits_of(inputs: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """Logits of these tokens [c, V], in float32 at least: inputs c × k_j, weights V × k_j in the types of the inputs."""
    logits = inputs[0] @ weights[0].T
    for one, weight in zip(inputs[1:], weights[1:], strict=True):
        logits += one @ weight.T
    logits = logits.to(_wide(logits.dtype))
    return logits if bias is None else logits.add_(bias)


class _OverTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: ChunkLoss, pairs: int, *tensors: Any) -> tuple[Tensor, Tensor | None]:
        inputs, bias = tensors[:pairs], tensors[-1]
        weights = in_type_of(inputs, tensors[pairs:-1])
        ctx.loss, ctx.pairs = loss, pairs
        ctx.save_for_backward(*tensors)
        values: list[Tensor] = []
        summed: Tensor | None = None
        for span in _spans(inputs[0], loss.together):
            token_values, part = loss.values(logits_of([one[span] for one in inputs], weights, bias), span)
            values.append(token_values)
            if part is not None:
                summed = part if summed is None else summed.add_(part)
        return torch.cat(values), summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_token: Tensor, by_sum: Tensor | None) -> tuple[Any, ...]:
        tensors = ctx.saved_tensors
        inputs, bias = tensors[: ctx.pairs], tensors[-1]
        weights = in_type_of(inputs, tensors[ctx.pairs : -1])
        gradients = [
            torch.zeros_like(tensor, dtype=_wide(tensor.dtype)) if tensor is not None and needed else None
            for tensor, needed in zip(tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        to_inputs, to_weights, to_bias = gradients[: ctx.pairs], gradients[ctx.pairs : -1], gradients[-1]
        for span in _spans(inputs[0], ctx.loss.together):
            logits = logits_of([one[span] for one in inputs], weights, bias)
            slope = ctx.loss.slope(logits, span, by_token[span], by_sum)
            del logits
            if to_bias is not None:
                to_bias += slope.sum(0)
            slope = slope.to(inputs[0].dtype)
            for one, weight, to_input, to_weight in zip(inputs, weights, to_inputs, to_weights, strict=True):
                if to_input is not None:
                    to_input[span] = slope @ weight
                if to_weight is not None:
                    _add_product(to_weight, slope.T, one[span])
        typed = [g if g is None else g.to(tensor.dtype) for g, tensor in zip(gradients, tensors, strict=True)]
        return None, None, *typed


def _spans(tokens: Tensor, together: int) -> list[slice]:
    size = max(1, CHUNK_TOKENS // together) * together
    return [slice(begin, begin + size) for begin in range(0, len(tokens), size)]


def in_type_of(inputs: Sequence[Any], weights: Sequence[Any]) -> list[Tensor]:
    """The weights in the types of their inputs, as matrix products want them."""
    return [weight.to(one.dtype) for one, weight in zip(inputs, weights, strict=True)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left · right, without another array of its size where the types allow it."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
