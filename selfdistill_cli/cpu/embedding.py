"""Embeddings whose gradient is added up in place.

torch makes a dense gradient of the whole table in every backward pass, fills it with zeros, and adds it to the one
before: for 30,000 × 384 numbers of which a micro-batch touches a few hundred rows. Here rows are added to one buffer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _Lookup(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, embedding: AddingEmbedding, places: Tensor) -> Tensor:
        ctx.embedding = embedding
        ctx.save_for_backward(places)
        return nn.functional.embedding(places, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        (places,) = ctx.saved_tensors
        ctx.embedding.add_gradient(places.flatten(), gradient.reshape(places.numel(), -1))
        return None, None, None


class AddingEmbedding(nn.Embedding):
    """`nn.Embedding` that adds its gradient to `weight.grad` itself, as autograd would."""

    _buffer: Tensor | None

    def forward(self, input: Tensor) -> Tensor:
        """Rows of the table: [..., dimension] for numbers [...]."""
        if not (self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(input)
        rows: Tensor = _Lookup.apply(self.weight, self, input)  # type: ignore[no-untyped-call]
        return rows

    def add_gradient(self, places: Tensor, gradient: Tensor) -> None:
        """Add the gradients [n, dimension] of the rows `places` [n]; the padding row has none."""
        if self.weight.grad is None:
            if self._buffer is None:
                self._buffer = torch.zeros_like(self.weight)
            self.weight.grad = self._buffer.zero_()
        if self.padding_idx is not None:
            real = places != self.padding_idx
            places, gradient = places[real], gradient[real]
        self.weight.grad.index_add_(0, places, gradient.to(self.weight.dtype))


def add_embedding_gradients_in_place(model: nn.Module) -> None:
    """Let every plain `nn.Embedding` of the model do so."""
    for module in model.modules():
        plain = type(module) is nn.Embedding and not (module.sparse or module.scale_grad_by_freq)
        if plain and module.max_norm is None:
            module.__class__ = AddingEmbedding
            module._buffer = None
