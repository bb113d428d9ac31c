"""mft: the corrected targets, the written loss, and whose predictions are corrected."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy import special
from torch.autograd import gradcheck

from selfdistill_cli import objectives
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.methods import MFT
from tests.helpers.given_logits import BATCH, LABELS, TEACHER, Z, classification, loss_of, total
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import make_context, make_examples, make_model

rng = np.random.default_rng(4)
BASE = 2 * rng.normal(size=(60, 5))
GOLD = rng.integers(0, 5, 60)
RIGHT = BASE.argmax(1) == GOLD


def reference(p: np.ndarray, gold: int, theta: float) -> np.ndarray:
    """p̃ of one distribution p⁰ as methods.md writes it."""
    if p.argmax() != gold:
        m = (p.max() - p[gold] + theta) / (1 + p.max() - p[gold])
        return (1 - m) * p + m * np.eye(len(p))[gold]
    raised = min(1.0, p[gold] + theta)
    target = p * (1 - raised) / (1 - p[gold])
    target[gold] = raised
    return target


def corrected(theta: float, base: np.ndarray = BASE, gold: np.ndarray = GOLD) -> np.ndarray:
    found: np.ndarray = objectives.corrected(torch.from_numpy(base), torch.from_numpy(gold), theta).numpy()
    return found


@pytest.mark.parametrize("theta", [0.0, 0.2, 0.9])
def test_targets_are_the_written_ones(theta: float) -> None:
    assert 5 < RIGHT.sum() < 55
    p = special.softmax(BASE, axis=1)
    expected = [reference(row, gold, theta) for row, gold in zip(p, GOLD, strict=True)]
    assert corrected(theta) == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize("theta", [0.0, 0.2, 0.9])
def test_a_target_is_a_distribution_that_the_label_leads_by_theta_at_least(theta: float) -> None:
    target = corrected(theta)
    assert target.sum(1) == pytest.approx(1.0, abs=1e-12)
    assert target.min() >= 0
    others = target.copy()
    others[np.arange(60), GOLD] = -1
    lead = target[np.arange(60), GOLD] - others.max(1)
    assert lead[~RIGHT] == pytest.approx(theta, abs=1e-12)
    assert lead[RIGHT].min() >= theta


def test_without_a_threshold_what_is_right_already_stays_as_it_is() -> None:
    assert corrected(0.0)[RIGHT] == pytest.approx(special.softmax(BASE, axis=1)[RIGHT], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_base_that_is_certain_gives_a_target_and_a_slope_that_are_finite(dtype: torch.dtype) -> None:
    base = torch.tensor([[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]], dtype=dtype)
    student = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    divergence, correction = objectives.corrected_kl(base, student, torch.tensor([0, 0]), 0.2)
    divergence.sum().backward()
    assert correction.tolist() == pytest.approx([0.0, 0.6])  # m = (1 + 0.2) / 2 of the label
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("theta", [0.0, 0.2])
def test_slopes_are_those_of_finite_differences_and_the_base_has_none(theta: float) -> None:
    base, gold = torch.from_numpy(BASE[:6]), torch.from_numpy(GOLD[:6])
    student = torch.from_numpy(rng.normal(size=(6, 5))).requires_grad_()
    assert gradcheck(lambda z: objectives.corrected_kl(base, z, gold, theta)[0], (student,))
    leaf = base.clone().requires_grad_()
    assert not objectives.corrected(leaf, gold, theta).requires_grad


def test_the_loss_is_the_written_one_with_the_teacher_in_the_place_of_the_start() -> None:
    method = MFT(classification(), theta=0.2)
    plan = method.plan(BATCH, 0.0)
    p, q = special.softmax(TEACHER[BATCH].astype(float), axis=1), special.softmax(Z.numpy().astype(float), axis=1)
    target = np.array([reference(row, gold, 0.2) for row, gold in zip(p, LABELS[BATCH], strict=True)])
    expected = special.rel_entr(target, q).sum(1).mean()
    (loss,) = loss_of(method, plan, Z)
    assert total([loss]) == pytest.approx(expected, rel=1e-5)
    raised = (target - p)[np.arange(6), LABELS[BATCH]]
    assert loss.signals["correction"].numpy() == pytest.approx(raised, rel=1e-4, abs=1e-6)
    assert total(loss_of(method, plan, Z, cuts=[[5, 0], [1], [2, 3, 4]])) == pytest.approx(expected, rel=1e-5)


def test_a_student_that_says_the_target_has_nothing_to_learn() -> None:
    for theta, row in product((0.1, 0.5), range(6)):
        base, gold = torch.from_numpy(BASE[[row]]), torch.from_numpy(GOLD[[row]])
        student = objectives.corrected(base, gold, theta).clamp_min(1e-300).log().requires_grad_()
        divergence, _ = objectives.corrected_kl(base, student, gold, theta)
        divergence.sum().backward()
        assert divergence.item() == pytest.approx(0, abs=1e-12)
        assert student.grad is not None
        assert float(student.grad.abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_of_written_answers_the_starting_weights_are_corrected_token_by_token(kind: str) -> None:
    examples, model, start, now = make_examples(kind), make_model(kind), make_model(kind), make_model(kind)
    method = MFT(replace(make_context(kind, examples, model), teacher_logits=None), theta=0.2)
    method.before_training(model)
    with torch.no_grad():
        for weight, same in zip(model.parameters(), now.parameters(), strict=True):
            weight += 0.01 * torch.sin(100 * weight)
            same.copy_(weight)
    rows = list(range(8))
    result = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(200))

    losses = []
    for row in rows:
        prompt, answer = (torch.from_numpy(of.row(row).astype(np.int64)) for of in (examples.prompts, examples.answers))
        if kind == "decoder":
            words = {"input_ids": torch.cat([prompt, answer])[None]}
            places = slice(len(prompt) - 1, -1)
        else:
            words = {"input_ids": prompt[None], "labels": answer[None]}
            places = slice(None)
        with torch.no_grad():
            base = start.eval()(**words).logits[0, places].softmax(-1).double().numpy()
        target = torch.tensor(np.array([reference(p, gold, 0.2) for p, gold in zip(base, answer.numpy(), strict=True)]))
        log_q = now(**words).logits[0, places].log_softmax(-1)
        losses.append((torch.special.xlogy(target, target) - target * log_q).sum(-1).mean())
    expected = torch.stack(losses).mean()
    expected.backward()
    assert result.loss == pytest.approx(expected.item(), rel=1e-4)
    ours, theirs = (torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model, now))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
