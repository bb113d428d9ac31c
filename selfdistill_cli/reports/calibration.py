"""Do probabilities mean what they say? ECE, negative log-likelihood, Brier score, reliability bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Of one run's class probabilities on n examples."""

    ece: float
    """Σ_b (n_b / n) · |accuracy_b − confidence_b| over bins of equal width (Guo et al., ICML 2017)."""
    nll: float
    """Mean −log p(y_i), nats."""
    brier: float
    """Mean Σ_c (p_c − 1[c = y_i])²: 0 to 2."""
    confidence: np.ndarray
    """Mean top probability of each bin [BINS]; NaN where a bin is empty."""
    accuracy: np.ndarray
    """Share of right predictions in each bin [BINS]; NaN where a bin is empty."""
    counts: np.ndarray
    """Examples in each bin [BINS]."""


def calibration(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """From logits (or log-probabilities) [n, C] and class numbers [n]."""
    log_p = log_softmax(logits, axis=1)
    p = np.exp(log_p)
    labels = labels.astype(int)
    rows = np.arange(len(labels))
    top, right = p.max(1), p.argmax(1) == labels
    bins = np.minimum((top * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, top, BINS) / counts
        accuracy = np.bincount(bins, right, BINS) / counts
    hits = np.zeros_like(p)
    hits[rows, labels] = 1
    return Calibration(
        ece=float(np.nansum(counts * np.abs(accuracy - confidence)) / len(labels)),
        nll=float(-log_p[rows, labels].mean()),
        brier=float(((p - hits) ** 2).sum(1).mean()),
        confidence=confidence,
        accuracy=accuracy,
        counts=counts,
    )
