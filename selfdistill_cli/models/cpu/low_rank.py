"""A layer with a low-rank update (LoRA, arXiv 2106.09685) as one function, with few passes over its activations.

peft's own layer casts its input twice, scales a product as large as its output, and adds that to another. On a processor
these passes over memory take longer than the products of the update. In bfloat16 it also rounds the layer's output before it
adds the update to it, and most of an update smaller than that rounding is lost. Here the large product is added to the small
one, inside the product and before it is rounded.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from selfdistill_cli.models.cpu.dropout import LEVELS, PackedDropout, drawn, kept_of
from selfdistill_cli.models.cpu.frozen import FrozenLinear


class LowRankLinear(LoraLinear):
    """peft's layer on a linear one that is not trained: the same distribution of outputs and gradients."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Shape [..., in] to [..., out], in autocast's type where it is on."""
        name = self._the_update()
        if name is None or args or kwargs:
            plain: Tensor = super().forward(x, *args, **kwargs)
            return plain
        base: FrozenLinear = self.base_layer  # type: ignore[assignment]
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else base.weight.dtype
        dropout = self.lora_dropout[name]
        kept = kept_of(dropout.p) if self.training and isinstance(dropout, PackedDropout) else LEVELS
        with torch.autocast("cpu", enabled=False):
            result: Tensor = _LowRank.apply(x, base.weight_in(dtype), base.bias, a, b, self.scaling[name], kept)  # type: ignore[no-untyped-call]
        return result

    def _the_update(self) -> str | None:
        """The name of the one update that is in force, if it stands beside the weights and is of the paper's kind."""
        active = self.active_adapters
        if self.disable_adapters or self.merged or len(active) != 1 or active[0] not in self.lora_A:
            return None
        name: str = active[0]
        dropout, a, b = self.lora_dropout[name], self.lora_A[name], self.lora_B[name]
        known = isinstance(dropout, nn.Identity) or (isinstance(dropout, PackedDropout) and kept_of(dropout.p) > 0)
        # Without autocast peft computes an update of other precision than the weights in its own.
        one_type = torch.is_autocast_enabled("cpu") or a.weight.dtype == self.base_layer.weight.dtype
        return name if known and one_type and name not in self.lora_variant and b.bias is None else None


class _LowRank(Function):
    """x Wᵀ + bias + scaling · dropout(x) Aᵀ Bᵀ, products in the type of W."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, weight, bias, a, b, scaling, kept = inputs
        dtype = weight.dtype
        of_base = x.to(dtype)
        mask = None if kept == LEVELS else drawn(of_base, kept)
        dropped = (of_base if mask is None else of_base * mask).reshape(-1, x.shape[-1])
        scale = scaling * LEVELS / kept
        low = (dropped @ a.to(dtype).t()).mul_(scale)  # the scale goes where it is cheap: [tokens, rank]
        out = low @ b.to(dtype).t()
        torch.addmm(out, of_base.reshape(-1, x.shape[-1]), weight.t(), out=out)
        if bias is not None:
            out.add_(bias)
        ctx.save_for_backward(weight, a, b, dropped, low, *(() if mask is None else (mask,)))
        ctx.scale, ctx.of_x = scale, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, a, b, dropped, low, *mask = ctx.saved_tensors
        dtype = weight.dtype
        of_out = gradient.to(dtype).reshape(-1, gradient.shape[-1])
        of_low = (of_out @ b.to(dtype)).mul_(ctx.scale)
        of_a, of_b = (of_low.t() @ dropped).to(a.dtype), (of_out.t() @ low).to(b.dtype)
        if not ctx.needs_input_grad[0]:
            return None, None, None, of_a, of_b, None, None
        of_x = of_low @ a.to(dtype)
        if mask:
            of_x.mul_(mask[0].view(of_x.shape))
        torch.addmm(of_x, of_out, weight, out=of_x)
        shape = (*gradient.shape[:-1], weight.shape[1])
        return of_x.view(shape).to(ctx.of_x), None, None, of_a, of_b, None, None


def fuse_low_rank(model: nn.Module) -> None:
    """Let every layer of the model that LoRA stands on be computed as one. One of another class stays as it is."""
    for module in model.modules():
        if type(module) is LoraLinear and isinstance(module.base_layer, FrozenLinear):
            module.__class__ = LowRankLinear
