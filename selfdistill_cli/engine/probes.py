"""Looks into a training step that leave rows in metrics.jsonl and change nothing of what is computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.engine.step import StepResult

LOOKS = 200
"""How many steps of a run are looked at, at most, by what costs time."""


class Probe(Protocol):
    """One kind of look, once a step, when the gradient is there and the weights have not changed yet."""

    kind: str
    """Of its rows."""

    def look(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        """What is recorded of step number `step` (from 1); None: nothing this time. All processes take part."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the next look compares with."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


def steps_between_looks(total_steps: int) -> int:
    """So that a run has `LOOKS` of them, or one each step."""
    return max(1, -(-total_steps // LOOKS))


class GradientProbe:
    """The norm of each layer's gradient, before clipping: does it reach the first layers?"""

    kind = "gradients"

    def __init__(self, total_steps: int, accelerator: Accelerator) -> None:
        self.every = steps_between_looks(total_steps)
        self.accelerator = accelerator

    def look(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        if (step - 1) % self.every:
            return None
        scaler = self.accelerator.scaler
        scale = scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0
        return {f"norm/{layer}": norm / scale for layer, norm in layer_norms(model.named_parameters()).items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ExampleProbe:
    """What the method computed of single examples, τ_i and α_i and the signals behind them, in every step."""

    kind = "examples"

    def look(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        columns = result.per_example
        rounded = {name: [round(value, 5) for value in values] for name, values in columns.items()}
        return {**rounded, "examples": columns["examples"]} if columns else None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class AgainProbe:
    """The same few examples predicted again and again, each time compared with the time before."""

    def __init__(
        self,
        kind: str,
        total_steps: int,
        predict: Callable[[nn.Module], Any],
        compare: Callable[[Any, Any], dict[str, float]],
        to_state: Callable[[Any], Any],
        from_state: Callable[[Any], Any],
    ) -> None:
        """`predict` gives predictions that outlive an update; `compare` is given those of the last look and of now."""
        self.kind = kind
        self.every = steps_between_looks(total_steps)
        self.predict = predict
        self.compare = compare
        self.to_state = to_state
        self.from_state = from_state
        self._last: Any = None

    def look(self, step: int, model: nn.Module, result: StepResult) -> dict[str, Any] | None:
        if (step - 1) % self.every:
            return None
        now = self.predict(model)
        row = None if self._last is None else {"steps_between": self.every, **self.compare(self._last, now)}
        self._last = now
        return row

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.to_state(self._last)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._last = self.from_state(state["last"])


def look(
    probes: Sequence[Probe], step: int, epoch: float, model: nn.Module, result: StepResult
) -> list[dict[str, Any]]:
    """The rows of all probes for this step."""
    seen = [(probe.kind, probe.look(step, model, result)) for probe in probes]
    return [{"kind": kind, "step": step, "epoch": round(epoch, 6), **row} for kind, row in seen if row is not None]


# --- layers --------------------------------------------------------------------------------------


def layer_of(parameter: str) -> str:
    """Which part of a network a parameter belongs to: `embeddings`, `layer 0` …, `encoder layer 0` …, `head`."""
    found = re.search(r"\b(?:layers?|h|blocks?|albert_layer_groups)\.(\d+)\.", parameter)
    if found:
        side = re.search(r"\b(encoder|decoder)\.block\.", parameter)  # an encoder–decoder (T5) has two such stacks
        return f"{side[1]} layer {found[1]}" if side else f"layer {found[1]}"
    if re.search(r"embed|\bshared\.|\bwte\b|\bwpe\b", parameter):
        return "embeddings"
    return "head"


def layer_norms(parameters: Any) -> dict[str, float]:
    """The 2-norm of the gradient of each layer, in the order of the network; layers without a gradient are left out.

    parameters: pairs of name and parameter.
    """
    squares: dict[str, list[Tensor]] = {}
    for name, parameter in parameters:
        if parameter.grad is not None:
            squares.setdefault(layer_of(name), []).append(parameter.grad.detach().float().square().sum())
    order = sorted(squares, key=lambda layer: (layer != "embeddings", layer == "head"))
    return {layer: float(torch.stack(squares[layer]).sum().sqrt()) for layer in order}
