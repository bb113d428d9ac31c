"""What the loop records of a step."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import torch

from selfdistill_cli.engine.compute import Passes
from selfdistill_cli.engine.loop import TrainingLoop
from selfdistill_cli.engine.progress import Progress
from selfdistill_cli.engine.step import StepResult


def test_a_gradient_that_overflowed_in_fp16_leaves_a_row_that_json_can_hold() -> None:
    """The gradient scaler leaves the weights as they are then; the norm is infinite, which JSON has no number for."""
    loop = object.__new__(TrainingLoop)
    loop.progress, loop.order = Progress(step=3), SimpleNamespace(steps_per_epoch=6)  # type: ignore[assignment]
    result = StepResult(
        0.5, {"loss/ce": 0.5}, {}, {}, torch.zeros(2, 2), 2, beside=Passes(), tokens=10, padded_tokens=12
    )
    skipped = json.loads(json.dumps(loop._train_row(result, 1e-3, math.inf, 1.0), allow_nan=False))
    assert skipped["update_skipped"] is True
    assert "grad_norm" not in skipped
    ordinary = loop._train_row(result, 1e-3, 0.7, 1.0)
    assert ordinary["grad_norm"] == 0.7
    assert "update_skipped" not in ordinary
