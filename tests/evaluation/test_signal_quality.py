"""AUROC and Spearman of signals, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfdistill_cli.evaluation.signal_quality import signal_quality
from selfdistill_cli.losses.labelled import ClassificationLosses


def test_auroc_counts_pairs() -> None:
    correct = np.array([True, True, False, False])
    found = signal_quality(correct, {"margin": [0.9, 0.3, 0.3, 0.1], "uncertainty": [0.1, 0.5, 0.4, 0.9]})
    assert found["margin/auroc"] == pytest.approx((4 - 0.5) / 4)  # one tie
    assert found["uncertainty/auroc"] == pytest.approx(3 / 4)  # 0.5 > 0.4 is the wrong way round
    assert found["margin/spearman"] > 0 > found["uncertainty/spearman"]


def test_with_two_classes_gold_discrimination_is_perfect_by_construction_and_the_margin_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(300, 2, generator=rng), torch.randint(0, 2, (300,), generator=rng)
    losses = ClassificationLosses()
    correct = (logits.argmax(-1) == labels).numpy()
    signals = {
        "discrimination": losses.signals(logits, labels, "gold")[1],
        "margin": losses.signals(logits, labels, "margin")[1],
    }
    found = signal_quality(correct, signals)
    assert found["discrimination/auroc"] == 1
    assert found["margin/auroc"] == pytest.approx(0.5, abs=0.1)


def test_what_cannot_be_said_is_left_out() -> None:
    assert signal_quality(np.ones(3, bool), {"margin": [1, 2, 3]}) == {}
    assert set(signal_quality(np.array([True, False]), {"margin": [1, 1]})) == {"margin/auroc"}
