"""Gradient flow: the norm of each layer's gradient over training."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.engine.probes import recording_interval
from selfdistill_cli.engine.results import StepResult
from selfdistill_cli.engine.sharding import whole_of


class GradientProbe:
    """The norm of each layer's gradient, before clipping: does it reach the first layers?"""

    kind = "gradients"

    def __init__(self, total_steps: int, accelerator: Accelerator) -> None:
        self.every = recording_interval(total_steps)
        self.accelerator = accelerator

    def observe(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        if (step - 1) % self.every:
            return None
        scaler = self.accelerator.scaler
        scale = scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0
        found = {f"norm/{layer}": norm / scale for layer, norm in layer_norms(model.named_parameters()).items()}
        # A step of fp16 that the scaler is about to skip has gradients without a size.
        return {name: norm for name, norm in found.items() if math.isfinite(norm)} or None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def layer_of(parameter: str) -> str:
    """Which part of a network a parameter belongs to: `embeddings`, `layer 0` …, `encoder layer 0` …, `head`."""
    found = re.search(r"\b(?:layers?|h|blocks?|albert_layer_groups)\.(\d+)\.", parameter)
    if found:
        side = re.search(r"\b(encoder|decoder)\.(?:block|layers)\.", parameter)  # of an encoder–decoder's two stacks
        return f"{side[1]} layer {found[1]}" if side else f"layer {found[1]}"
    if re.search(r"embed(?!_out)|\bshared\.|\bwte\b|\bwpe\b", parameter):
        return "embeddings"
    return "head"


def layer_norms(parameters: Any) -> dict[str, float]:
    """The 2-norm of the gradient of each layer, in the order of the network; layers without a gradient are left out.

    parameters: pairs of name and parameter.
    """
    squares: dict[str, list[Tensor]] = {}
    for name, parameter in parameters:
        if parameter.grad is not None:
            squares.setdefault(layer_of(name), []).append(whole_of(parameter.grad.detach().float().square().sum()))
    order = sorted(squares, key=lambda layer: (layer != "embeddings", layer == "head"))
    return {layer: float(torch.stack(squares[layer]).sum().sqrt()) for layer in order}
