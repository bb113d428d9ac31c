"""static_sd and dynsdpb: the written losses, their options and the properties that methods.md names."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from selfdistill_cli.methods import DynSDPB, StaticSD, Vanilla
from tests.helpers import labelled_reference as reference
from tests.helpers.given_logits import LABELS, TARGETS, classification, loss_of, random_logits, regression, total

FIRST, SECOND = [3, 1, 4, 15, 9], [2, 6, 5, 3, 8]
STATIC: dict[str, Any] = {
    "tau": 3.0,
    "alpha": 0.7,
    "overlap": "append",
    "match": "vmm",
    "regression": "scaled",
    "start_epoch": 0.0,
}
DYNAMIC = STATIC | {
    "tau_rule": "uncertainty",
    "alpha_rule": "discrimination",
    "signal": "previous",
    "granularity": "example",
    "discrimination": "gold",
}
Z1 = random_logits(5, seed=1)
Z2 = random_logits(10, seed=2)


def second_step(method: StaticSD, z1: torch.Tensor = Z1, epoch: float = 1.0) -> Any:
    """Take a first step with logits z1 and plan the second one."""
    plan = method.plan(FIRST, 0.0)
    assert plan.examples == FIRST
    loss_of(method, plan, z1)
    method.after_backward(plan, z1)
    return method.plan(SECOND, epoch)


def dyn(**changes: Any) -> DynSDPB:
    return DynSDPB(classification(), **(DYNAMIC | changes))


def test_the_first_step_is_cross_entropy_alone() -> None:
    method = StaticSD(classification(), **STATIC)
    plan = method.plan(FIRST, 0.0)
    (loss,) = loss_of(method, plan, Z1)
    assert total([loss]) == pytest.approx(reference.ce(Z1.numpy(), LABELS[FIRST]).mean(), rel=1e-6)
    assert float(loss.parts["kd"].sum()) == 0


def test_static_loss_is_the_written_one() -> None:
    method = StaticSD(classification(), **STATIC)
    plan = second_step(method)
    assert plan.examples == SECOND + FIRST
    z, y = Z2.numpy(), LABELS[SECOND + FIRST]
    kd = 0.7 * 3.0**2 * reference.kl(Z1.numpy(), z[5:], np.array(3.0)).mean()
    losses = loss_of(method, plan, Z2)
    assert total(losses) == pytest.approx(reference.ce(z, y).mean() + kd, rel=1e-5)
    assert float(losses[0].parts["kd"].sum()) == pytest.approx(kd, rel=1e-5)


RULES = [
    (t, a)
    for t in ("uncertainty", "confidence", "constant")
    for a in ("discrimination", "uncertainty", "certainty", "product", "constant")
]


@pytest.mark.parametrize(("tau_rule", "alpha_rule"), RULES)
@pytest.mark.parametrize("signal", ["previous", "current"])
@pytest.mark.parametrize("granularity", ["example", "batch"])
def test_dynamic_loss_is_the_written_one(tau_rule: str, alpha_rule: str, signal: str, granularity: str) -> None:
    method = dyn(tau_rule=tau_rule, alpha_rule=alpha_rule, signal=signal, granularity=granularity)
    plan = second_step(method)
    z, y = Z2.numpy(), LABELS[SECOND + FIRST]
    u, d = reference.signals(Z1.numpy() if signal == "previous" else z[5:], LABELS[FIRST])
    constant = tau_rule == alpha_rule == "constant"
    if granularity == "batch" and not constant:
        u, d = np.full(5, u.mean()), np.full(5, d.mean())
    tau = {"uncertainty": 3 * (1 + u), "confidence": 3 * (2 - d), "constant": np.full(5, 3.0)}[tau_rule]
    influence = {"discrimination": d, "uncertainty": u, "certainty": 1 - u, "product": d * (1 - u)}
    alpha = 0.7 * influence.get(alpha_rule, np.ones(5))
    expected = reference.ce(z, y).mean() + (alpha * tau**2 * reference.kl(Z1.numpy(), z[5:], tau)).mean()
    losses = loss_of(method, plan, Z2)
    assert total(losses) == pytest.approx(expected, rel=1e-5)
    assert losses[0].signals["tau"].numpy() == pytest.approx(tau, rel=1e-5)
    assert losses[0].signals["alpha"].numpy() == pytest.approx(alpha, rel=1e-5)
    assert losses[0].signals["uncertainty"].numpy() == pytest.approx(u, rel=1e-5)
    assert method.needs_whole_step == (signal == "current" and granularity == "batch" and not constant)


def test_margin_discrimination_needs_no_label() -> None:
    method = dyn(discrimination="margin")
    plan = second_step(method)
    p = np.sort(torch.softmax(Z1, 1).numpy(), axis=1)
    (loss,) = loss_of(method, plan, Z2)
    assert loss.signals["discrimination"].numpy() == pytest.approx(p[:, -1] - p[:, -2], rel=1e-5)


def test_alpha_zero_is_cross_entropy_on_the_doubled_batch() -> None:
    method = StaticSD(classification(), **(STATIC | {"alpha": 0.0}))
    plan = second_step(method)
    z_distilled, z_plain = Z2.clone().requires_grad_(), Z2.clone().requires_grad_()
    loss_of(method, plan, z_distilled)[0].total.sum().backward()
    loss_of(Vanilla(classification()), plan, z_plain)[0].total.sum().backward()
    assert torch.equal(z_distilled.grad, z_plain.grad)  # type: ignore[arg-type]


def test_equal_teacher_and_student_logits_leave_only_cross_entropy() -> None:
    method = dyn()
    plan = second_step(method)
    z = torch.cat([Z2[:5], Z1])
    (loss,) = loss_of(method, plan, z)
    assert float(loss.parts["kd"].abs().max()) < 1e-6


def test_u_d_tau_and_alpha_carry_no_gradient() -> None:
    method = dyn(signal="current")
    plan = second_step(method)
    (loss,) = loss_of(method, plan, Z2.clone().requires_grad_())
    assert not any(values.requires_grad for values in loss.signals.values())


@pytest.mark.parametrize("changes", [{}, {"signal": "current"}, {"granularity": "batch"}])
def test_cutting_the_step_does_not_change_the_gradient(changes: dict[str, Any]) -> None:
    method = dyn(**changes)
    plan = second_step(method)
    whole, cut = Z2.clone().requires_grad_(), Z2.clone().requires_grad_()
    loss_of(method, plan, whole)[0].total.sum().backward()
    for loss in loss_of(method, plan, cut, cuts=[[9, 0, 3], [1, 2, 4], [5, 6, 7, 8]]):
        loss.total.sum().backward()
    assert torch.allclose(whole.grad, cut.grad, rtol=1e-6, atol=1e-8)  # type: ignore[arg-type]


def test_before_the_start_epoch_there_is_cross_entropy_alone_on_the_same_batches() -> None:
    method = StaticSD(classification(), **(STATIC | {"start_epoch": 1.5}))
    early = second_step(method, epoch=1.4)
    assert early.examples == SECOND + FIRST
    assert float(loss_of(method, early, Z2)[0].parts["kd"].sum()) == 0
    late = method.plan(SECOND, 1.5)
    assert float(loss_of(method, late, Z2)[0].parts["kd"].sum()) > 0


@pytest.mark.parametrize(("batch_size", "fresh", "previous"), [(8, 4, 4), (5, 3, 2), (2, 1, 1)])
def test_half_shares_the_batch_and_gives_the_fresh_part_the_odd_example(
    batch_size: int, fresh: int, previous: int
) -> None:
    method = StaticSD(classification(batch_size), **(STATIC | {"overlap": "half"}))
    assert method.fresh_per_step == fresh
    plan = method.plan(list(range(fresh)), 0.0)
    method.after_backward(plan, random_logits(fresh, 1))
    second = method.plan(list(range(10, 10 + fresh)), 0.1)
    assert len(second.previous) == previous
    assert len(second.examples) == batch_size
    assert total(loss_of(method, second, random_logits(batch_size, 2))) > 0


def test_the_teacher_is_the_forward_pass_of_the_step_before() -> None:
    method = StaticSD(classification(), **STATIC)
    second_step(method)
    plan = method.plan(SECOND, 1.0)
    method.after_backward(plan, Z2)
    third = method.plan([20, 21], 2.0)
    assert list(third.previous) == SECOND
    z = torch.cat([random_logits(2, 5), Z2[:5]])  # the students say exactly what was kept
    assert float(loss_of(method, third, z)[0].parts["kd"].abs().max()) < 1e-6


@pytest.mark.parametrize("form", ["scaled", "width"])
def test_regression_compares_gaussians_scaled_by_their_temperature_or_as_wide_as_it(form: str) -> None:
    z1, z2 = random_logits(5, 1, regression=True), random_logits(10, 2, regression=True)
    method = DynSDPB(regression(), **(DYNAMIC | {"regression": form}))
    plan = second_step(method, z1)
    y = TARGETS[SECOND + FIRST]
    u = np.clip(np.abs(z1.numpy() - TARGETS[FIRST]) / 5.0, 0, 1)
    tau, alpha = 3 * (1 + u), 0.7 * (1 - u)
    kl = (z2.numpy()[5:] - z1.numpy()) ** 2 / (2 * (1 if form == "scaled" else tau**2))
    expected = ((z2.numpy() - y) ** 2).mean() + (alpha * kl).mean()
    losses = loss_of(method, plan, z2)
    assert total(losses) == pytest.approx(expected, rel=1e-5)
    assert losses[0].signals["discrimination"].numpy() == pytest.approx(1 - u, rel=1e-5)


def test_a_restored_method_goes_on_as_the_original() -> None:
    method = dyn()
    plan = method.plan(FIRST, 0.0)
    method.after_backward(plan, Z1)
    state = copy.deepcopy(method.state_dict())
    restored = dyn()
    restored.load_state_dict(state)
    plans = [m.plan(SECOND, 1.0) for m in (method, restored)]
    losses = [loss_of(m, p, Z2)[0].total for m, p in zip((method, restored), plans, strict=True)]
    assert torch.equal(losses[0], losses[1])
