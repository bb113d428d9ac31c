"""Losses and signals against NumPy and SciPy references written here, and by their properties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch.autograd import gradcheck

from selfdistill_cli import objectives

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(6, 4)) * 3
OTHER = rng.normal(size=(6, 4)) * 3
LABELS = np.array([0, 1, 2, 3, 0, 1])
TAUS = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 8.0])


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def test_cross_entropy_is_the_negative_log_likelihood_of_the_gold_label() -> None:
    expected = -np.log(special.softmax(LOGITS, axis=1)[np.arange(6), LABELS])
    assert objectives.cross_entropy(tensor(LOGITS), tensor(LABELS)).numpy() == pytest.approx(expected, rel=1e-12)


def test_tempered_kl_is_tau_squared_times_scipys_relative_entropy() -> None:
    expected = [
        tau**2 * stats.entropy(special.softmax(teacher / tau), special.softmax(student / tau))
        for teacher, student, tau in zip(OTHER, LOGITS, TAUS, strict=True)
    ]
    found = objectives.tempered_kl(tensor(OTHER), tensor(LOGITS), tensor(TAUS))
    assert found.numpy() == pytest.approx(expected, rel=1e-9)


def test_tempered_kl_of_equal_logits_is_zero_and_has_no_gradient() -> None:
    student = tensor(LOGITS).requires_grad_()
    kl = objectives.tempered_kl(tensor(LOGITS), student, 3.0)
    kl.sum().backward()
    assert kl.detach().abs().max() < 1e-12
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-12


def test_tempered_kl_is_never_negative_in_float32() -> None:
    teacher = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1))
    nearly = teacher + 1e-4 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(2))
    assert objectives.tempered_kl(teacher, nearly, 4.0).min() >= 0


def test_tempered_kl_gives_the_teacher_no_gradient() -> None:
    teacher, student = tensor(OTHER).requires_grad_(), tensor(LOGITS).requires_grad_()
    objectives.tempered_kl(teacher, student, 2.0).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_losses_are_float32_for_half_precision_logits() -> None:
    logits = tensor(LOGITS).bfloat16()
    assert objectives.cross_entropy(logits, tensor(LABELS)).dtype == torch.float32
    assert objectives.tempered_kl(logits, logits, 2.0).dtype == torch.float32
    assert objectives.squared_error(logits[:, 0], logits[:, 1]).dtype == torch.float32


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: objectives.cross_entropy(z, tensor(LABELS)),
        lambda z: objectives.tempered_kl(tensor(OTHER), z, tensor(TAUS)),
        lambda z: objectives.squared_error(z[:, 0], tensor(OTHER[:, 0])),
        lambda z: objectives.gaussian_kl(tensor(OTHER[:, 0]), z[:, 0], tensor(TAUS)),
    ],
    ids=["cross_entropy", "tempered_kl", "squared_error", "gaussian_kl"],
)
def test_gradients(loss: Callable[..., torch.Tensor]) -> None:
    assert gradcheck(loss, (tensor(LOGITS).requires_grad_(),))


def test_gaussian_kl_is_the_divergence_of_two_gaussians() -> None:
    # KL(N(a, τ²) ‖ N(b, τ²)) integrated numerically.
    a, b, tau = 0.7, -0.4, 1.5
    grid = np.linspace(-20, 20, 200_001)
    p, q = stats.norm.pdf(grid, a, tau), stats.norm.pdf(grid, b, tau)
    expected = np.trapezoid(p * np.log(p / q), grid)
    found = objectives.gaussian_kl(torch.tensor([a]), torch.tensor([b]), tau)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_uncertainty_is_the_normalised_entropy() -> None:
    expected = stats.entropy(special.softmax(LOGITS, axis=1), axis=1) / np.log(4)
    assert objectives.uncertainty(tensor(LOGITS)).numpy() == pytest.approx(expected, rel=1e-9)
    assert float(objectives.uncertainty(torch.zeros(1, 7))) == pytest.approx(1.0)
    assert float(objectives.uncertainty(torch.tensor([[100.0, 0.0]]))) == pytest.approx(0.0, abs=1e-6)


def test_gold_discrimination_is_twice_the_sigmoid_of_the_log_likelihood() -> None:
    log_likelihood = special.log_softmax(LOGITS, axis=1)[np.arange(6), LABELS]
    found = objectives.gold_discrimination(tensor(LOGITS), tensor(LABELS)).numpy()
    assert found == pytest.approx(2 * special.expit(log_likelihood), rel=1e-9)
    assert (found > 0).all()
    assert (found <= 1).all()


def test_margin_discrimination_is_the_gap_of_the_two_largest_probabilities() -> None:
    ordered = np.sort(special.softmax(LOGITS, axis=1), axis=1)
    expected = ordered[:, -1] - ordered[:, -2]
    assert objectives.margin_discrimination(tensor(LOGITS)).numpy() == pytest.approx(expected, rel=1e-9)


def test_regression_uncertainty_is_the_scaled_error_clipped_to_one() -> None:
    found = objectives.regression_uncertainty(torch.tensor([1.0, 4.0, -20.0]), torch.tensor([2.0, 4.0, 5.0]), 5.0)
    assert found.tolist() == pytest.approx([0.2, 0.0, 1.0])


U, D = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.6, 0.1])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("uncertainty", [2.0, 3.0, 4.0]), ("confidence", [2.0, 2.8, 3.8]), ("constant", [2.0, 2.0, 2.0])],
)
def test_dynamic_temperature(rule: str, expected: list[float]) -> None:
    assert objectives.dynamic_temperature(rule, 2.0, U, D).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("discrimination", [0.5, 0.3, 0.05]),
        ("certainty", [0.5, 0.25, 0.0]),
        ("product", [0.5, 0.15, 0.0]),
        ("constant", [0.5, 0.5, 0.5]),
    ],
)
def test_dynamic_influence(rule: str, expected: list[float]) -> None:
    assert objectives.dynamic_influence(rule, 0.5, U, D).tolist() == pytest.approx(expected)


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="tau_rule"):
        objectives.dynamic_temperature("nonsense", 1.0, U, D)
    with pytest.raises(ValueError, match="alpha_rule"):
        objectives.dynamic_influence("nonsense", 1.0, U, D)


def test_discordance_marks_different_predictions() -> None:
    teacher = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    student = torch.tensor([[0.1, 0.0], [5.0, 1.0], [0.0, 9.0]])
    assert objectives.discordance(teacher, student).tolist() == [False, True, True]


def test_regression_discordance_marks_the_share_above_the_quantile() -> None:
    teacher = torch.zeros(100)
    student = torch.arange(100.0) - 50.5
    found = objectives.regression_discordance(teacher, student, 0.8)
    expected = np.abs(student.numpy()) > np.quantile(np.abs(student.numpy()), 0.8)
    assert found.tolist() == expected.tolist()
    assert int(found.sum()) == 20


def numpy_boost(weights: np.ndarray, discordant: np.ndarray, factor: float, largest: float) -> np.ndarray:
    gained = weights * factor**discordant
    gained = gained * len(gained) / gained.sum()
    clipped = np.minimum(gained, largest)
    return clipped * len(clipped) / clipped.sum()


def test_boost_follows_the_written_rule_over_several_rounds() -> None:
    generator = np.random.default_rng(3)
    weights, reference = torch.ones(50, dtype=torch.float64), np.ones(50)
    for _ in range(12):
        discordant = generator.random(50) < 0.3
        weights = objectives.boost(weights, tensor(discordant), 3.0, 4.0)
        reference = numpy_boost(reference, discordant, 3.0, 4.0)
        assert weights.numpy() == pytest.approx(reference, rel=1e-12)
        assert float(weights.mean()) == pytest.approx(1.0)


def test_boost_with_factor_one_leaves_all_ones_exactly() -> None:
    ones = torch.ones(77, dtype=torch.float64)
    assert torch.equal(objectives.boost(ones, torch.arange(77) % 2 == 0, 1.0, 10.0), ones)


def test_entropy_and_effective_size_of_weights() -> None:
    weights = torch.tensor([1.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    assert objectives.weight_entropy(weights) == pytest.approx(stats.entropy([1, 1, 2, 4]))
    assert objectives.effective_sample_size(weights) == pytest.approx(64 / 22)
    assert objectives.effective_sample_size(torch.ones(9)) == pytest.approx(9)
    assert objectives.effective_sample_size(torch.tensor([0.0, 5.0])) == pytest.approx(1)
