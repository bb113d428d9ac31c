"""What a vocabulary map keeps, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from selfdistill_cli.diagnostics.maps import compare_maps, examples_within_memory
from selfdistill_cli.engine.predictions import TokenRows


def rows(*answers: np.ndarray) -> TokenRows:
    """Of distributions [S_i, V] each."""
    lengths = torch.tensor([len(answer) for answer in answers])
    return TokenRows(lengths, {"log_p": torch.tensor(np.concatenate(answers)).log().float()})


def drawn(seed: int, lengths: list[int], sharpness: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.full(7, 1 / sharpness), size) for size in lengths]


def test_divergences_are_scipys() -> None:
    then, now = drawn(0, [3, 5, 2]), drawn(1, [3, 5, 2])
    found = compare_maps(rows(*then), rows(*now))
    maps = np.mean([entropy(p.mean(0), q.mean(0)) for p, q in zip(then, now, strict=True)])
    tokens = np.mean([np.mean(entropy(p, q, axis=1)) for p, q in zip(then, now, strict=True)])
    assert found["map_kl"] == pytest.approx(maps, rel=1e-4)
    assert found["token_kl"] == pytest.approx(tokens, rel=1e-4)
    assert found["map_kl"] <= found["token_kl"]  # convexity
    assert found["retrieval/chance"] == pytest.approx(1 / 3)


def test_the_same_predictions_find_themselves() -> None:
    then = drawn(2, [4, 1, 6, 3], sharpness=3)
    found = compare_maps(rows(*then), rows(*then))
    assert found["map_kl"] == pytest.approx(0, abs=1e-6)
    assert found["retrieval/map"] == found["retrieval/token"] == 1


def test_a_map_forgets_the_order_that_tokens_know() -> None:
    one = np.array([[0.9, 0.1], [0.1, 0.9]])
    other = one[::-1].copy()
    found = compare_maps(rows(one, other), rows(one, other))
    assert found["retrieval/token"] == 1
    assert found["retrieval/map"] == 0.5  # both maps are (0.5, 0.5): the first of equals is taken


def test_memory_bounds_how_many_examples_are_watched() -> None:
    assert examples_within_memory(np.full(100, 10), vocabulary=1000) == 32
    assert examples_within_memory(np.full(100, 100), vocabulary=32_000) == 10
    assert examples_within_memory(np.full(100, 5000), vocabulary=128_000) == 4
    assert examples_within_memory(np.full(3, 5), vocabulary=100) == 3
