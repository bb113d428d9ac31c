"""Hugging Face's whole logits at answer tokens, an example at a time: what chunked losses are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def answer_logits(model: Any, prompt: np.ndarray, answer: np.ndarray) -> Tensor:
    """Logits [S, V] at the S tokens of an answer, by a decoder or an encoder–decoder whose decoder starts with token 0."""
    asked, said = (torch.from_numpy(part.astype(np.int64)) for part in (prompt, answer))
    if not model.config.is_encoder_decoder:
        logits: Tensor = model(input_ids=torch.cat([asked, said])[None]).logits[0, len(asked) - 1 : -1]
        return logits
    begun = torch.cat([torch.zeros(1, dtype=torch.int64), said[:-1]])
    of_decoder: Tensor = model(input_ids=asked[None], decoder_input_ids=begun[None]).logits[0]
    return of_decoder


def flat_gradient(model: Any) -> Tensor:
    """All gradients, one after the other."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
