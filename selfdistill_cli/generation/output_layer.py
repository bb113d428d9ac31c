"""A language model's output layer: its input is caught, so that its [tokens, vocabulary] output is never made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selfdistill_cli.errors import UserError
from selfdistill_cli.generation.chunked import in_type_of, logits_of
from selfdistill_cli.token_rows import OutputLayer


def output_layer(model: nn.Module) -> OutputLayer:
    """The layer as it is now, its weights not copied. With LoRA on it there are two factors."""
    layer = _module(model)
    base, adapter = _parts(layer)
    weights = (base.weight,) if adapter is None else (base.weight, layer.lora_B[adapter].weight)
    return OutputLayer(weights, base.bias)


def catch_inputs(model: nn.Module, **arguments: Tensor) -> list[Tensor]:
    """What the output layer would have been given in this forward pass, for each of its factors [m, L, k_j]."""
    with _catching(_module(model)) as caught:
        model(**arguments)
    (inputs,) = caught
    return inputs


@contextmanager
def _catching(layer: Any) -> Iterator[list[list[Tensor]]]:
    caught: list[list[Tensor]] = []
    base, adapter = _parts(layer)

    def keep_input(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        inputs = [hidden]
        if adapter is not None:
            update = layer.lora_A[adapter](layer.lora_dropout[adapter](hidden.to(layer.lora_A[adapter].weight.dtype)))
            inputs.append(update * layer.scaling[adapter])
        kind = hidden.device.type
        if torch.is_autocast_enabled(kind):  # as autocast would do for the layer
            inputs = [one.to(torch.get_autocast_dtype(kind)) for one in inputs]
        else:
            inputs = [one.to(base.weight.dtype) for one in inputs]
        caught.append(inputs)
        return hidden.new_empty((*hidden.shape[:-1], 0))

    layer.forward = keep_input
    try:
        yield caught
    finally:
        del layer.forward  # the class's own is found again


def _module(model: Any) -> Any:
    return model.get_output_embeddings()


def _parts(layer: Any) -> tuple[Any, str | None]:
    """The linear layer itself, and the name of the LoRA adapter on it."""
    if not hasattr(layer, "lora_A"):
        return layer, None
    (adapter,) = layer.active_adapters
    return layer.base_layer, adapter


@torch.no_grad()
def require_plain_output(model: nn.Module, arguments: dict[str, Tensor]) -> None:
    """Raise `UserError` if the model does more to its logits than a matrix product and a bias (a cap, a scale)."""
    was_training = model.training
    model.eval()
    expected = model(**arguments).logits.float()
    inputs, layer = catch_inputs(model, **arguments), output_layer(model)
    model.train(was_training)
    found = logits_of(inputs, in_type_of(inputs, layer.weights), layer.bias)
    tolerance = 1e-3 if expected.dtype == torch.float32 and inputs[0].dtype == torch.float32 else 5e-2
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
        raise UserError(
            f"{type(model).__name__} changes its logits after the output layer (as Gemma 2 caps them), which the "
            "losses over large vocabularies do not follow. Choose another model."
        )
