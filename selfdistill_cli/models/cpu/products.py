"""Matrix products in a short format, many in a row with the same weights: the weights are rounded once, not each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def weights_rounded(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """While this lasts, the matrices of the model's linear layers stand in `dtype`, as autocast has them in each product.

    Autocast rounds every matrix anew in every forward pass. For a pass over one token a row, as in writing, that moves
    more memory than the products do. Outputs are the same, bit by bit; nothing but `nn.Linear` is touched, and a matrix
    that is an embedding as well stays an embedding in its own format. It takes their memory in `dtype` beside them.
    """
    layers = [
        layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.weight.dtype is torch.float32
    ]
    own = [layer._parameters["weight"] for layer in layers]
    rounded: dict[int, nn.Parameter] = {}
    try:
        for layer, weight in zip(layers, own, strict=True):
            if id(weight) not in rounded:
                rounded[id(weight)] = nn.Parameter(layer.weight.detach().to(dtype), requires_grad=False)
            layer._parameters["weight"] = rounded[id(weight)]
        yield
    finally:
        for layer, weight in zip(layers, own, strict=True):
            layer._parameters["weight"] = weight
