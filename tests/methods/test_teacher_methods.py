"""kd and dcs: the written losses, the reweighting rounds and the properties that methods.md names."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from selfdistill_cli import objectives
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS, check
from selfdistill_cli.methods import DCS, KD, PerExampleLoss, TrainingContext
from tests.helpers import labelled_reference as reference
from tests.helpers.given_logits import (
    BATCH,
    LABELS,
    REGRESSION_TEACHER,
    SIZE,
    TARGETS,
    TEACHER,
    Z,
    classification,
    loss_of,
    random_logits,
    regression,
    total,
)
from tests.helpers.runs import composed

SETTINGS: dict[str, Any] = {
    "tau": 2.0,
    "alpha": 0.3,
    "standardize": False,
    "lambda_": 3.0,
    "factor": "lambda",
    "reweighting": "boosting",
    "update": "epoch",
    "weight_on": "both",
    "max_weight": 10.0,
    "warmup_epochs": 1,
    "discordance_quantile": 0.8,
}


def dcs(context: TrainingContext | None = None, **changes: Any) -> DCS:
    return DCS(context or classification(), **(SETTINGS | changes))


def kd_parts(weights: np.ndarray | float = 1.0) -> tuple[float, float]:
    """Weighted means of α·CE and (1 − α)·τ²·KL over the batch."""
    hard = reference.ce(Z.numpy(), LABELS[BATCH])
    soft = 4.0 * reference.kl(TEACHER[BATCH], Z.numpy(), np.array(2.0))
    return float((weights * 0.3 * hard).mean()), float((weights * 0.7 * soft).mean())


def student(seed: int = 5) -> torch.Tensor:
    return random_logits(SIZE, seed)


def discordant(seed: int = 5) -> np.ndarray:
    return student(seed).numpy().argmax(1) != TEACHER.argmax(1)


def test_kd_is_the_written_loss() -> None:
    method = KD(classification(), tau=2.0, alpha=0.3)
    assert total(loss_of(method, method.plan(BATCH, 0.0), Z)) == pytest.approx(sum(kd_parts()), rel=1e-5)


def test_kd_without_a_teacher_is_an_error() -> None:
    context = TrainingContext(classification().losses, SIZE, classification().labels, batch_size=8)
    with pytest.raises(ValueError, match="teacher"):
        KD(context, tau=2.0, alpha=0.3)


def standardized_parts(z: torch.Tensor, teacher: np.ndarray = TEACHER) -> PerExampleLoss:
    """The loss of kd with standardized logits on the batch whose logits are z."""
    context = replace(classification(), teacher_logits=torch.from_numpy(teacher))
    method = KD(context, tau=0.5, alpha=0.3, standardize=True)
    (loss,) = loss_of(method, method.plan(BATCH, 0.0), z)
    return loss


def test_kd_of_standardized_logits_is_the_written_loss() -> None:
    teacher, student = (stats.zscore(z.astype(float), axis=1) for z in (TEACHER[BATCH], Z.numpy()))
    expected = 0.7 * 0.5**2 * reference.kl(teacher, student, np.array(0.5)).mean()
    assert float(standardized_parts(Z).parts["kd"].sum()) == pytest.approx(expected, rel=1e-5)


def test_standardized_kd_does_not_see_the_scale_of_either_side_s_logits() -> None:
    plain = standardized_parts(Z).parts["kd"]
    for found in (standardized_parts(7 * Z + 3), standardized_parts(Z, 0.01 * TEACHER - 1)):
        assert torch.allclose(found.parts["kd"], plain, rtol=1e-4)


def test_equal_logits_have_no_spread_and_leave_a_finite_slope() -> None:
    z = torch.zeros(6, 3, requires_grad=True)
    standardized_parts(z).total.sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_slopes_of_standardized_logits_are_those_of_finite_differences() -> None:
    z = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(objectives.standardized, (z,))


STANDARDIZE = "method.standardize=true"
REFUSED = {
    "two classes": ((STANDARDIZE, "task=sst2"), r"\+1 and −1 .* no gradient. It takes three classes or more"),
    "a single number": ((STANDARDIZE, "task=stsb"), "a single number, which has no spread"),
}


@pytest.mark.parametrize("method", ["kd", "dcs", "born_again"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_standardizing_would_leave_without_a_gradient_is_refused(what: str, method: str) -> None:
    words, said = REFUSED[what]
    with pytest.raises(UserError, match=said):
        check(composed(f"method={method}", *words))
    check(composed(f"method={method}", STANDARDIZE, "task=mnli"))
    check(composed(f"method={method}", STANDARDIZE, "task=synth_arithmetic"))


def test_two_classes_are_refused_once_the_file_has_told_them() -> None:
    cfg = composed("method=kd", STANDARDIZE, "task=custom", "task.path=x.csv", "task.text=body")
    check(cfg)
    KINDS["classification"].check(cfg, ["bad", "fair", "good"])
    with pytest.raises(UserError, match="three classes or more"):
        KINDS["classification"].check(cfg, ["bad", "good"])


def test_kd_regression_is_squared_errors() -> None:
    z = random_logits(6, 1, regression=True)
    method = KD(regression(), tau=2.0, alpha=0.3)
    expected = 0.3 * (z.numpy() - TARGETS[BATCH]) ** 2 + 0.7 * (z.numpy() - REGRESSION_TEACHER[BATCH]) ** 2
    assert total(loss_of(method, method.plan(BATCH, 0.0), z)) == pytest.approx(expected.mean(), rel=1e-5)


def test_warm_up_is_plain_cross_entropy_with_all_weights_one() -> None:
    method = dcs(warmup_epochs=2)
    assert method.after_epoch(0, student) == {}  # the last warm-up epoch has not ended
    assert torch.equal(method.weights, torch.ones_like(method.weights))
    expected = reference.ce(Z.numpy(), LABELS[BATCH]).mean()
    assert total(loss_of(method, method.plan(BATCH, 1.99), Z)) == pytest.approx(expected, rel=1e-6)


def test_boosting_rounds_follow_the_written_rule() -> None:
    method, weights = dcs(max_weight=2.0), np.ones(SIZE)
    for epoch, seed in enumerate((5, 6, 7)):
        method.after_epoch(epoch, lambda seed=seed: student(seed))  # type: ignore[misc]
        weights = weights * 3.0 ** discordant(seed)
        weights = np.minimum(weights * SIZE / weights.sum(), 2.0)
        weights = weights * SIZE / weights.sum()
        assert method.weights.numpy() == pytest.approx(weights, rel=1e-12)


def test_reset_has_no_memory() -> None:
    method = dcs(reweighting="reset")
    for epoch, seed in enumerate((5, 6)):
        method.after_epoch(epoch, lambda seed=seed: student(seed))  # type: ignore[misc]
    raw = 3.0 ** discordant(6)
    assert method.weights.numpy() == pytest.approx(raw / raw.mean(), rel=1e-12)


@pytest.mark.parametrize("weight_on", ["both", "ce", "kd"])
def test_weights_multiply_the_chosen_terms(weight_on: str) -> None:
    method = dcs(weight_on=weight_on)
    method.after_epoch(0, student)
    weights = method.weights.numpy()[BATCH]
    weighted, plain = kd_parts(weights), kd_parts()
    expected = (plain if weight_on == "kd" else weighted)[0] + (plain if weight_on == "ce" else weighted)[1]
    assert total(loss_of(method, method.plan(BATCH, 1.0), Z)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("changes", [{"lambda_": 1.0}, {"lambda_": 0.0, "factor": "exp"}])
@pytest.mark.parametrize("update", ["epoch", "step"])
def test_a_factor_of_one_is_kd_exactly(changes: dict[str, Any], update: str) -> None:
    method, plain = dcs(update=update, **changes), KD(classification(), tau=2.0, alpha=0.3)
    plan = method.plan(BATCH, 1.0)
    method.after_backward(plan, Z)
    method.after_epoch(0, student)
    found, expected = (loss_of(m, m.plan(BATCH, 1.0), Z)[0].total for m in (method, plain))
    assert torch.equal(found, expected)


def test_exp_takes_e_to_the_lambda() -> None:
    method = dcs(factor="exp", lambda_=0.5)
    method.after_epoch(0, student)
    raw = math.exp(0.5) ** discordant()
    assert method.weights.numpy() == pytest.approx(raw / raw.mean(), rel=1e-12)


def test_update_step_reweights_the_examples_just_trained_on_without_predicting() -> None:
    method = dcs(update="step")
    method.after_backward(method.plan(BATCH, 0.5), Z)  # still warming up
    assert torch.equal(method.weights, torch.ones_like(method.weights))
    method.after_backward(method.plan(BATCH, 1.0), Z)
    raw = np.ones(SIZE)
    raw[BATCH] *= 3.0 ** (Z.numpy().argmax(1) != TEACHER[BATCH].argmax(1))
    assert method.weights.numpy() == pytest.approx(raw / raw.mean(), rel=1e-12)

    def never() -> torch.Tensor:
        raise AssertionError("update=step needs no extra forward pass")

    assert method.after_epoch(1, never)["weights/largest"] == pytest.approx(float(method.weights.max()))


def test_what_no_step_has_compared_yet_is_not_logged() -> None:
    method = dcs(update="step", warmup_epochs=2)
    assert method.after_epoch(1, student) == {}
    assert "discordant/fraction" in method.after_epoch(2, student)


def test_what_an_epoch_logs() -> None:
    method = dcs()
    logged = method.after_epoch(0, student)
    marked = discordant()
    assert 0 < marked.sum() < SIZE
    assert logged["discordant/fraction"] == pytest.approx(marked.mean())
    assert logged["discordant/teacher_right"] == pytest.approx((TEACHER.argmax(1) == LABELS)[marked].mean())
    assert logged["discordant/student_right"] == pytest.approx((student().numpy().argmax(1) == LABELS)[marked].mean())
    w = method.weights.numpy()
    assert logged["weights/effective_sample_size"] == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert logged["weights/entropy"] == pytest.approx(-(w / w.sum() * np.log(w / w.sum())).sum())


def test_regression_discordance_is_the_upper_quantile_of_the_gaps() -> None:
    method = dcs(regression())
    prediction = random_logits(SIZE, 5, regression=True)
    method.after_epoch(0, lambda: prediction)
    gap = np.abs(prediction.numpy() - REGRESSION_TEACHER)
    raw = 3.0 ** (gap > np.quantile(gap, 0.8))
    assert method.weights.numpy() == pytest.approx(raw / raw.mean(), rel=1e-12)


def test_cutting_the_step_does_not_change_the_loss() -> None:
    method = dcs()
    method.after_epoch(0, student)
    plan = method.plan(BATCH, 1.0)
    whole = total(loss_of(method, plan, Z))
    assert total(loss_of(method, plan, Z, cuts=[[5, 0], [1], [2, 3, 4]])) == pytest.approx(whole, rel=1e-6)


def test_a_restored_method_goes_on_as_the_original() -> None:
    method, restored = dcs(), dcs()
    method.after_epoch(0, student)
    restored.load_state_dict(copy.deepcopy(method.state_dict()))
    for m in (method, restored):
        m.after_epoch(1, lambda: student(6))
    assert torch.equal(method.weights, restored.weights)
