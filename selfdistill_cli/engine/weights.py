"""The part of a model that training changes: what a checkpoint must hold."""

from __future__ import annotations

from torch import Tensor, nn


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that are trained, each once (tied ones too), and buffers; not the fixed weights under LoRA."""
    kept = set(model.state_dict())
    trained: dict[str, Tensor] = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if name in kept}


def load_trained_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Take back what `trained_weights` gave. Raises `KeyError` if it was of another model."""
    own = trained_weights(model)
    if own.keys() != weights.keys():
        raise KeyError(f"weights of another model: {sorted(own.keys() ^ weights.keys())[:3]} …")
    for name, tensor in own.items():
        tensor.copy_(weights[name])
