"""How long a text a model can read, where a table of positions says so."""

from __future__ import annotations

from typing import Any

from torch import nn

TABLES = ("position_embeddings", "wpe")
"""What models call them."""


def positions_of(model: Any) -> int | None:
    """Places for tokens in the model's table of absolute positions; None if it has no such table.

    fairseq's models (RoBERTa) leave out the places up to that of the padding.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in TABLES and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None
