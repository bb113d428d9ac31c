"""What a model predicts for a whole split, without dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.engine.batching import Batching, prediction_batches
from selfdistill_cli.engine.predictions import join
from selfdistill_cli.engine.processes import gathered
from selfdistill_cli.system.fault_points import passing


class Examples(Protocol):
    """Encoded examples, and how a model makes predictions of them."""

    def __len__(self) -> int: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example that a forward pass takes [N]."""
        ...

    def collate(self, rows: np.ndarray, width_multiple: int) -> Any:
        """These examples as a model takes them, padded to a multiple."""
        ...

    def forward(self, model: nn.Module, batch: Any, device: torch.device) -> Any:
        """Predictions of what `collate` gave: logits [m, C], outputs [m], or `TokenRows`."""
        ...


def on_cpu(logits: Tensor) -> Tensor:
    """Logits as they are kept: float32, on the CPU."""
    return logits.float().cpu()


@torch.no_grad()
def predict(
    model: nn.Module,
    examples: Examples,
    batching: Batching,
    accelerator: Accelerator,
    keep: Callable[[Any], Any] = on_cpu,
) -> Any:
    """Predictions of all examples in their order, dropout off: float32 logits [N, C] or outputs [N] on the CPU.

    `keep` makes something else of each batch's predictions: a tensor of m rows, or `TokenRows` of m examples.
    Several processes share the work; each gets everything, and no example counts twice.
    """
    was_training = model.training
    model.eval()
    parts = prediction_batches(examples.lengths, batching)
    own = []
    for rows in parts[accelerator.process_index :: accelerator.num_processes]:
        passing("prediction")
        batch = examples.collate(rows, batching.width_multiple)
        own.append((rows, keep(examples.forward(model, batch, accelerator.device))))
    model.train(was_training)
    return in_order([part for process in gathered(own) for part in process])


def in_order(parts: list[tuple[np.ndarray, Any]]) -> Any:
    """Predictions of some examples, made in parts, in the order of the examples' numbers."""
    numbers, pieces = zip(*parts, strict=True)
    return join(pieces)[torch.from_numpy(np.argsort(np.concatenate(numbers)))]
