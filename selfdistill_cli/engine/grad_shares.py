"""Does a part of the loss act? Its gradient at the output layer beside that of the first part, over a whole step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from selfdistill_cli.engine.method import PerExampleLoss
from selfdistill_cli.engine.predictions import Predictions, TokenRows

STEPS_OF_ANSWERS = 30
"""Of a run, at most, where it takes the products of a large vocabulary once more for each part."""
STEPS_APART = 20
"""At least, there: such a step of a small decoder takes a fifth longer, so all of them together about 1 % of a run."""
SCALE = 2.0**12
"""A small gradient would be 0 in fp16; a power of two changes no other digit."""


def recorded(step: int, total_steps: int) -> bool:
    """Whether step number `step` (from 1) is one of which the shares at answer tokens are recorded; the last one is."""
    return step % max(STEPS_APART, -(-total_steps // STEPS_OF_ANSWERS)) == 0 or step == total_steps


def squared_norms(loss: PerExampleLoss, predictions: Predictions) -> dict[str, Tensor]:
    """Of each part L_p = Σ_i l_{p,i} of a micro-batch's loss, Σ_t ‖∂L_p/∂z_t‖², coefficients and weights included.

    z_t: logits of example t [C], its output in regression, or, at answer tokens, where logits are never held, the hidden
    state that the output layer is given. Rows of one micro-batch are no other's, so the squares of a step add up.
    Empty where there is a single part. Leaves no gradient, and changes none.
    """
    roots = [root for root in _roots(predictions) if root.requires_grad]
    if len(loss.parts) < 2 or not roots:
        return {}
    return {name: _squared_norm(part.sum(), roots) for name, part in loss.parts.items()}


def grad_shares(pieces: Sequence[dict[str, float]]) -> dict[str, float]:
    """`grad_share/<part>`: ‖∂L_part/∂z‖ / ‖∂L_first/∂z‖ of the step, for each part but the first.

    pieces: what `squared_norms` gave of its micro-batches. Empty where the first part has no gradient at all.
    """
    found = [piece for piece in pieces if piece]
    if not found:
        return {}
    first, *others = found[0]
    sums = {name: sum(piece[name] for piece in found) for name in (first, *others)}
    return {f"grad_share/{name}": math.sqrt(sums[name] / sums[first]) for name in others} if sums[first] else {}


def _roots(predictions: Predictions) -> list[Tensor]:
    return predictions.inputs if isinstance(predictions, TokenRows) else [predictions]


def _squared_norm(part: Tensor, roots: Sequence[Tensor]) -> Tensor:
    if not part.requires_grad:  # a part that does not act yet
        return part.new_zeros(())
    gradients = torch.autograd.grad(part * SCALE, roots, retain_graph=True, allow_unused=True)
    squares = [(gradient.float() / SCALE).square().sum() for gradient in gradients if gradient is not None]
    return torch.stack(squares).sum() if squares else part.new_zeros(())
