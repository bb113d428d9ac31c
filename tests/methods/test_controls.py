"""label_smoothing, focal and reweight: the written losses, and where each of them is vanilla."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from selfdistill_cli import objectives
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.methods import Focal, LabelSmoothing, Method, Reweight, Vanilla
from tests.helpers import labelled_reference as reference
from tests.helpers.given_logits import (
    BATCH,
    LABELS,
    SIZE,
    TARGETS,
    Z,
    classification,
    loss_of,
    random_logits,
    regression,
    total,
)
from tests.helpers.runs import composed

P = special.softmax(Z.numpy().astype(float), axis=1)
GOLD = LABELS[BATCH]


def reweight(**changes: Any) -> Reweight:
    settings: dict[str, Any] = {"rule": "boosting", "lambda_": 3.0, "max_weight": 10.0, "warmup_epochs": 1}
    return Reweight(changes.pop("context", classification()), **settings | {"error_quantile": 0.8} | changes)


def step_loss(method: Method, z: Tensor = Z) -> float:
    return total(loss_of(method, method.plan(BATCH, 0.0), z))


def student(seed: int = 5) -> Tensor:
    return random_logits(SIZE, seed)


def wrong(seed: int = 5) -> np.ndarray:
    return student(seed).numpy().argmax(1) != LABELS


@pytest.mark.parametrize("epsilon", [0.1, 0.7])
def test_label_smoothing_shares_epsilon_among_all_classes(epsilon: float) -> None:
    target = np.full((6, 3), epsilon / 3)
    target[np.arange(6), GOLD] += 1 - epsilon
    expected = -(target * np.log(P)).sum(1).mean()
    assert step_loss(LabelSmoothing(classification(), epsilon)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_discounts_what_is_likely_already(gamma: float) -> None:
    of_gold = P[np.arange(6), GOLD]
    expected = (-((1 - of_gold) ** gamma) * np.log(of_gold)).mean()
    assert step_loss(Focal(classification(), gamma)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", [LabelSmoothing(classification(), 0.0), Focal(classification(), 0.0), reweight()])
def test_without_its_measure_each_is_vanilla(method: Method) -> None:
    assert step_loss(method) == pytest.approx(step_loss(Vanilla(classification())), rel=1e-7)


def test_a_factor_of_one_is_vanilla_bit_for_bit() -> None:
    method, plain = reweight(lambda_=1.0), Vanilla(classification())
    method.after_epoch(0, student)
    found, expected = (loss_of(m, m.plan(BATCH, 1.0), Z)[0].total for m in (method, plain))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_slope_is_finite_where_the_label_is_certain(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    objectives.focal_loss(logits, torch.tensor([0, 0]), gamma).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].tolist() == pytest.approx([-1.0, 1.0])  # p_y = 0: cross-entropy's own slope


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: objectives.smoothed_cross_entropy(z, y, 0.2),
        lambda z, y: objectives.focal_loss(z, y, 1.5),
    ],
)
def test_slopes_are_those_of_finite_differences(loss: Any) -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: loss(z, torch.tensor([0, 2, 1, 1])), (logits,))


def test_boosting_rounds_reweight_what_is_wrong_as_dcs_does() -> None:
    method, weights = reweight(max_weight=2.0), np.ones(SIZE)
    for epoch, seed in enumerate((5, 6, 7)):
        method.after_epoch(epoch, lambda seed=seed: student(seed))  # type: ignore[misc]
        weights = weights * 3.0 ** wrong(seed)
        weights = np.minimum(weights * SIZE / weights.sum(), 2.0)
        weights = weights * SIZE / weights.sum()
        assert method.weights.numpy() == pytest.approx(weights, rel=1e-12)
    expected = (weights[BATCH] * reference.ce(Z.numpy(), GOLD)).mean()
    assert step_loss(method) == pytest.approx(expected, rel=1e-6)


def test_jtt_reweights_once_at_the_end_of_the_warm_up() -> None:
    method = reweight(rule="jtt", warmup_epochs=2, max_weight=1.01)  # which is boosting's
    for epoch, seed in enumerate((5, 6, 7)):
        logged = method.after_epoch(epoch, lambda seed=seed: student(seed))  # type: ignore[misc]
        assert bool(logged) == (epoch >= 1)
    raw = 3.0 ** wrong(6)
    assert method.weights.numpy() == pytest.approx(raw / raw.mean(), rel=1e-12)


def test_in_regression_the_largest_errors_gain() -> None:
    method = reweight(context=regression(), error_quantile=0.75)
    predicted = random_logits(SIZE, 5, regression=True)
    method.after_epoch(0, lambda: predicted)
    errors = np.abs(predicted.numpy() - TARGETS)
    assert method.wrong.tolist() == (errors > np.quantile(errors, 0.75)).tolist()


def test_weights_go_on_after_an_interruption() -> None:
    method, again = reweight(), reweight()
    method.after_epoch(0, student)
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.weights, method.weights)
    assert step_loss(again) == step_loss(method) != step_loss(reweight())


@pytest.mark.parametrize("method", ["label_smoothing", "focal"])
def test_in_regression_there_are_no_classes_to_share_anything_among(method: str) -> None:
    with pytest.raises(UserError, match=rf"{method} reads a distribution .* a regression predicts a single number"):
        check(composed(f"method={method}", "task=stsb"))
