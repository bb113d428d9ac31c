"""A language model's output layer: its input is caught, so that its [tokens, vocabulary] output is never made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selfdistill_cli.engine.predictions import OutputLayer
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.chunked import in_type_of, logits_of


def output_layer(model: nn.Module) -> OutputLayer:
    """The layer as it is now, its weights not copied. With LoRA on it there are two factors."""
    layer = _module(model)
    base, adapter = _parts(layer)
    weights = (base.weight,) if adapter is None else (base.weight, layer.lora_B[adapter].weight)
    return OutputLayer(weights, base.bias)


class _Caught(Exception):  # noqa: N818 - not an error: it leaves the model's forward where its output layer would begin
    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()
        self.inputs = inputs


def catch_inputs(model: nn.Module, **arguments: Tensor) -> list[Tensor]:
    """What the output layer would have been given in this forward pass, for each of its factors [m, L, k_j]."""
    layer = _module(model)
    base, adapter = _parts(layer)

    def catch(hidden: Tensor, *_: Any, **__: Any) -> None:
        inputs = [hidden]
        if adapter is not None:
            update = layer.lora_A[adapter](layer.lora_dropout[adapter](hidden.to(layer.lora_A[adapter].weight.dtype)))
            inputs.append(update * layer.scaling[adapter])
        kind = hidden.device.type
        # As autocast would do for the layer.
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
        raise _Caught([one.to(dtype) for one in inputs])

    layer.forward = catch
    try:
        model(**arguments)
    except _Caught as caught:
        return caught.inputs
    finally:
        del layer.forward  # the class's own is found again
    raise UserError(f"{type(model).__name__} does not use its output layer, so its losses cannot be computed.")


def _module(model: Any) -> Any:
    return model.get_output_embeddings()


def _parts(layer: Any) -> tuple[Any, str | None]:
    """The linear layer itself, and the name of the LoRA adapter on it."""
    if not hasattr(layer, "lora_A"):
        return layer, None
    (adapter,) = layer.active_adapters
    return layer.base_layer, adapter


@torch.no_grad()
def require_plain_output(model: Any, arguments: dict[str, Tensor]) -> None:
    """Raise `UserError` if the model does more to its logits than a matrix product and a bias (a cap, a scale)."""
    was_training = model.training
    model.eval()
    expected = model(**arguments).logits.float()
    inputs, layer = catch_inputs(model, **arguments), output_layer(model)
    model.train(was_training)
    found = logits_of(inputs, in_type_of(inputs, layer.weights), layer.bias)
    capped = getattr(model.config, "final_logit_softcapping", None) is not None  # which small logits do not show
    tolerance = 1e-3 if expected.dtype == torch.float32 and inputs[0].dtype == torch.float32 else 5e-2
    if capped or not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
        raise UserError(
            f"{type(model).__name__} changes its logits after the output layer (as Gemma 2 caps them), which the "
            "losses over large vocabularies do not follow. Choose another model."
        )
