"""Losses that compare the copies of an example: against NumPy in float64, dense gradients, and their properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.engine.method import MicroBatch, StepPlan
from selfdistill_cli.engine.predictions import OutputLayer, TokenRows
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses import chunked
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.labelled import ClassificationLosses, RegressionLosses

V, H = 7, 5
LENGTHS = [3, 1, 5]
rng = np.random.default_rng(11)


def batch(labels: Tensor | None, copies: int = 2, units: int = 3) -> MicroBatch:
    plan = StepPlan(list(range(units)), 0.0, copies=copies)
    rows = torch.tensor(plan.examples)
    gold = None if labels is None else labels.repeat_interleave(copies)
    return MicroBatch(plan, torch.arange(len(rows)), rows, gold)


def reference(first: np.ndarray, second: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """½(CE¹ + CE²) and ½(KL(p¹‖p²) + KL(p²‖p¹)) of rows [n, C]."""
    p, q = special.softmax(first, axis=1), special.softmax(second, axis=1)
    likelihoods = np.log(p[np.arange(len(gold)), gold] * q[np.arange(len(gold)), gold])
    return -likelihoods / 2, (special.rel_entr(p, q).sum(1) + special.rel_entr(q, p).sum(1)) / 2


def answers(copies: int) -> tuple[AnswerLosses, TokenRows, Tensor, np.ndarray]:
    """Three answers of `copies` copies each; their dense logits [T, V], tokens of one copy after those of another."""
    weight = torch.from_numpy(rng.normal(size=(V, H))).requires_grad_()
    lengths = np.repeat(LENGTHS, copies)
    hidden = torch.from_numpy(rng.normal(size=(lengths.sum(), H))).requires_grad_()
    gold = np.concatenate([np.tile(rng.integers(0, V, length), copies) for length in LENGTHS])
    layer = OutputLayer((weight,), None)
    rows = TokenRows(torch.from_numpy(lengths), {"labels": torch.from_numpy(gold), "input0": hidden})
    return AnswerLosses(lambda: layer), rows, hidden @ weight.T, gold


def by_copy(values: Any, copies: int) -> list[list[Any]]:
    """Of each example, the values of each of its copies."""
    ends = np.cumsum(np.repeat(LENGTHS, copies))
    parts = [values[end - length : end] for end, length in zip(ends, np.repeat(LENGTHS, copies), strict=True)]
    return [parts[i : i + copies] for i in range(0, len(parts), copies)]


def test_classification_is_what_is_written() -> None:
    logits, gold = 2 * rng.normal(size=(6, V)), rng.integers(0, V, 3)
    found = ClassificationLosses().between_copies(torch.from_numpy(logits), batch(torch.from_numpy(gold)))
    for ours, expected in zip(found, reference(logits[::2], logits[1::2], gold), strict=True):
        assert ours.numpy() == pytest.approx(expected, rel=1e-5)


def test_regression_compares_numbers() -> None:
    predicted, targets = torch.tensor([1.0, 3.0, 2.0, 2.5, 0.0, 0.0]), torch.tensor([2.0, 2.0, 1.0])
    supervised, divergence = RegressionLosses(5.0).between_copies(predicted, batch(targets))
    assert supervised.tolist() == [1.0, 0.125, 1.0]
    assert divergence.tolist() == [4.0, 0.25, 0.0]


@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
def test_answers_are_compared_token_by_token_however_they_are_cut(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", chunk)
    losses, rows, logits, gold = answers(2)
    supervised, divergence = losses.between_copies(rows, batch(None))
    dense, labels = by_copy(logits.detach().numpy(), 2), by_copy(gold, 2)
    for i in range(3):
        ce, kl = reference(dense[i][0], dense[i][1], labels[i][0])
        assert supervised[i].item() == pytest.approx(ce.mean(), rel=1e-10)
        assert divergence[i].item() == pytest.approx(kl.mean(), rel=1e-10)


def spread(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each row [t, c, C]: the variance of the label's logit over copies."""
    picked = logits.gather(-1, labels[:, None, None].expand(-1, logits.shape[1], 1))[..., 0]
    return picked.var(dim=1, correction=0)


@pytest.mark.parametrize("chunk", [2, 7, 100])
def test_a_function_of_three_copies_has_the_gradients_of_dense_logits(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", chunk)
    losses, rows, logits, gold = answers(3)
    coefficients = torch.tensor([0.5, 1.0, 2.0], dtype=torch.double)
    leaves = [rows.columns["input0"], *(w for w in losses._live().weights if w is not None)]
    ours = torch.autograd.grad((coefficients * losses.of_copies(spread, rows, batch(None, 3))).sum(), leaves)
    total = torch.zeros((), dtype=torch.double)
    for share, of_example, labels in zip(coefficients, by_copy(logits, 3), by_copy(gold, 3), strict=True):
        total = total + share * spread(torch.stack(of_example, dim=1), torch.from_numpy(labels[0])).mean()
    for found, expected in zip(ours, torch.autograd.grad(total, leaves), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        assert found.abs().sum() > 0


def test_a_regression_has_no_distribution_to_compare() -> None:
    with pytest.raises(UserError, match="a regression predicts a single number"):
        RegressionLosses(1.0).of_copies(spread, torch.zeros(6), batch(torch.zeros(3)))


def test_the_divergence_has_the_slopes_of_finite_differences() -> None:
    first, second = (torch.randn(4, V, dtype=torch.double, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(objectives.symmetric_kl, (first, second))


def test_the_divergence_is_symmetric_and_nothing_moves_where_copies_are_equal() -> None:
    first, second = torch.randn(50, V) * 5, torch.randn(50, V) * 5
    found = objectives.symmetric_kl(first, second)
    assert torch.equal(found, objectives.symmetric_kl(second, first))
    assert (found > 0).all()
    same = first.clone().requires_grad_()
    divergence = objectives.symmetric_kl(same, first)
    divergence.sum().backward()
    assert divergence.count_nonzero() == 0
    assert same.grad is not None
    assert same.grad.count_nonzero() == 0
