"""Forward passes: logits of a micro-batch, and of a whole split without dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selfdistill_cli.encoding import Examples
from selfdistill_cli.engine.batching import budget_batches


def forward(model: nn.Module, examples: Examples, rows: np.ndarray, device: torch.device) -> Tensor:
    """Logits of these examples: [m, C], or [m] if the model has a single output (regression)."""
    inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in examples.collate(rows).items()}
    logits: Tensor = model(**inputs).logits
    return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


@torch.no_grad()
def predict(model: nn.Module, examples: Examples, token_budget: int, device: torch.device) -> Tensor:
    """Logits of all examples, dropout off, in their order: float32 [N, C] or [N], on the CPU."""
    was_training = model.training
    model.eval()
    # Without a gradient nothing but the current layer is held, so the budget stretches further.
    parts = budget_batches(examples.lengths, 2 * token_budget)
    found = [forward(model, examples, rows, device).float().cpu() for rows in parts]
    model.train(was_training)
    logits = torch.empty((len(examples), *found[0].shape[1:]))
    logits[torch.from_numpy(np.concatenate(parts))] = torch.cat(found)
    return logits
