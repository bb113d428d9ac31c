"""The language models' losses in NumPy from full logits, written from the formulas of methods.md and nothing else."""

from __future__ import annotations

import numpy as np
from scipy import special


def split(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Values of tokens, example by example."""
    return np.split(values, np.cumsum(lengths)[:-1])


def nll(logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean over each example's tokens of −log p(label), [m]."""
    of_tokens = -special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return np.array([part.mean() for part in split(of_tokens, lengths)])


def maps(logits: np.ndarray, lengths: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """m_i(τ_i) = (1/S_i) Σ_s softmax(z_{i,s} / τ_i), [m, V]."""
    parts = split(logits, lengths)
    return np.stack([special.softmax(z / t, axis=1).mean(0) for z, t in zip(parts, tau, strict=True)])


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p ‖ q) in nats along the last axis."""
    return special.rel_entr(p, q).sum(-1)


def vmm(teacher: np.ndarray, student: np.ndarray, lengths: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """τ_i² · KL(m_i^prev(τ_i) ‖ m_i(τ_i)), [m]."""
    return tau**2 * kl(maps(teacher, lengths, tau), maps(student, lengths, tau))


def token_kl(teacher: np.ndarray, student: np.ndarray, lengths: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """τ_i² times the mean over tokens of KL(p(z^T; τ_i) ‖ p(z; τ_i)), [m]."""
    found = []
    for t, s, scale in zip(split(teacher, lengths), split(student, lengths), tau, strict=True):
        found.append(scale**2 * kl(special.softmax(t / scale, axis=1), special.softmax(s / scale, axis=1)).mean())
    return np.array(found)


def bucket_kl(teacher: np.ndarray, student: np.ndarray, k: int, tau: float) -> np.ndarray:
    """τ² · KL between both sides' k + 1 buckets (the teacher's top k, the rest), tempered, [T]."""
    found = []
    for t, s in zip(special.softmax(teacher, axis=1), special.softmax(student, axis=1), strict=True):
        top = np.argsort(-t)[:k]
        p, q = (np.append(side[top], max(1 - side[top].sum(), 0)) for side in (t, s))
        p, q = (side ** (1 / tau) / (side ** (1 / tau)).sum() for side in (p, q))
        found.append(tau**2 * kl(p, q))
    return np.array(found)


def signals(logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u_i = H(m_i(1)) / log V and d_i = 2 · sigmoid(−NLL_i)."""
    m = maps(logits, lengths, np.ones(len(lengths)))
    return special.entr(m).sum(1) / np.log(m.shape[1]), 2 * special.expit(-nll(logits, labels, lengths))
