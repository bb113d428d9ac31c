"""Weights that are not trained, as those below LoRA, in the narrow type of their products: made once, not in each pass.

autocast casts the weights of a product in every forward pass, and keeps what it made only where they are trained and
only for that pass. Reading all weights of a model for some hundreds of tokens takes a fifth of such a pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenLinear(nn.Linear):
    """`nn.Linear` whose weight does not change: under autocast the same bits, from a copy that is kept."""

    narrow: Tensor | None = None
    """The weight in autocast's type, once it was needed."""

    def forward(self, input: Tensor) -> Tensor:
        """Shape [..., in] to [..., out], in autocast's type where it is on."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return F.linear(input, self.weight_in(torch.get_autocast_dtype("cpu")), self.bias)

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """The weight in this type: a copy that is kept, unless it has the type itself."""
        if self.weight.dtype == dtype:
            return self.weight
        if self.narrow is None or self.narrow.dtype != dtype:
            self.narrow = self.weight.detach().to(dtype)
        return self.narrow


def keep_frozen_narrow(model: nn.Module) -> None:
    """Let every `nn.Linear` of the model that is not trained keep its weight narrow. One of another class stays as it is."""
    for module in model.modules():
        if type(module) is nn.Linear and not module.weight.requires_grad:
            module.__class__ = FrozenLinear


def forget_narrow(model: nn.Module) -> None:
    """Take `keep_frozen_narrow` back, before something changes these weights after all."""
    for module in model.modules():
        if isinstance(module, FrozenLinear):
            module.__class__ = nn.Linear  # type: ignore[assignment]
            module.__dict__.pop("narrow", None)
