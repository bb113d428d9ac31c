"""Forward passes: logits of a micro-batch, and of a whole split without dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from selfdistill_cli.encoding import Examples
from selfdistill_cli.engine.batching import budget_batches
from selfdistill_cli.engine.processes import gathered
from selfdistill_cli.fault_injection import passing


def forward(model: nn.Module, examples: Examples, rows: np.ndarray, device: torch.device) -> Tensor:
    """Logits of these examples: [m, C], or [m] if the model has a single output (regression)."""
    inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in examples.collate(rows).items()}
    logits: Tensor = model(**inputs).logits
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


@torch.no_grad()
def predict(model: nn.Module, examples: Examples, token_budget: int, accelerator: Accelerator) -> Tensor:
    """Logits of all examples, dropout off, in their order: float32 [N, C] or [N], on the CPU.

    Several processes share the work; each gets all logits, and no example counts twice.
    """
    was_training = model.training
    model.eval()
    # Without a gradient nothing but the current layer is held, so the budget stretches further.
    parts = budget_batches(examples.lengths, 2 * token_budget)
    own = []
    for rows in parts[accelerator.process_index :: accelerator.num_processes]:
        passing("prediction")
        own.append((rows, forward(model, examples, rows, accelerator.device).float().cpu()))
    model.train(was_training)
    found = [part for process in gathered(own) for part in process]
    logits = torch.empty((len(examples), *found[0][1].shape[1:]))
    for rows, values in found:
        logits[torch.from_numpy(rows)] = values
    return logits
