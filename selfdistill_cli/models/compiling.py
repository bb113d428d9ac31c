"""torch.compile of what a model is made of, in place: its names, its weights and how it is saved stay as they are."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import nn


def compile_body(model: Any, deterministic: bool) -> None:
    """Have training run compiled kernels of everything below the model's head. In evaluation it stays as it was.

    So written answers, whose every token has another shape, compile nothing, and neither do predictions. The first steps
    take long; a batch of another shape costs one more compilation, after which shapes may vary. `deterministic`: choose
    kernels without timing them, since another choice would add up in another order.
    """
    if deterministic:
        from torch._inductor import config

        config.deterministic = True
    for body in _bodies(model):
        _compile_in_training(body)


def _bodies(model: Any) -> list[nn.Module]:
    """The transformer without its head; of an encoder–decoder both of its stacks."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    if base.base_model is not base:
        return [base.base_model]
    if base.config.is_encoder_decoder:
        return [base.get_encoder(), base.get_decoder()]
    return [base]


def _compile_in_training(body: nn.Module) -> None:
    plain = body.forward
    compiled = torch.compile(plain)

    @wraps(plain)
    def forward(*inputs: Any, **named: Any) -> Any:
        return (compiled if body.training else plain)(*inputs, **named)

    body.forward = forward
