"""Divergences of gkd and sdft: against SciPy in float64, their limits, their slopes, and in chunks of a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from selfdistill_cli.engine.predictions import OutputLayer
from selfdistill_cli.losses import chunked
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.divergences import Measure
from selfdistill_cli.losses.labelled import ClassificationLosses, RegressionLosses
from tests.helpers import answers_reference as dense
from tests.losses.test_answers import BATCH, FORMS, LENGTHS, H, T, V, dense_logits, layer, rows

NAMES = ["forward_kl", "reverse_kl", "jsd"]
rng = np.random.default_rng(8)
TEACHER, STUDENT = 2 * rng.normal(size=(2, 7, 5))


def reference(name: str, beta: float, teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """D(p_T, p_θ) of each row as methods.md writes it."""
    p, q = special.softmax(teacher, axis=1), special.softmax(student, axis=1)
    m = beta * p + (1 - beta) * q
    found: np.ndarray = {
        "forward_kl": dense.kl(p, q),
        "reverse_kl": dense.kl(q, p),
        "jsd": beta * dense.kl(p, m) + (1 - beta) * dense.kl(q, m),
    }[name]
    return found


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_written_ones(name: str, beta: float) -> None:
    found = Measure(name, beta)(torch.from_numpy(TEACHER), torch.from_numpy(STUDENT))
    assert found.numpy() == pytest.approx(reference(name, beta, TEACHER, STUDENT), rel=1e-12)
    of_float32 = Measure(name, beta)(torch.from_numpy(TEACHER).float(), torch.from_numpy(STUDENT).bfloat16())
    assert of_float32.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_those_of_finite_differences_and_the_teacher_has_none(name: str) -> None:
    teacher, student = (torch.from_numpy(side.copy()).requires_grad_() for side in (TEACHER, STUDENT))
    assert gradcheck(lambda z: Measure(name, 0.3)(teacher, z), (student,))
    Measure(name, 0.3)(teacher, student).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_equal_sides_have_nothing_to_learn_and_certain_ones_have_finite_slopes(name: str) -> None:
    student = torch.from_numpy(TEACHER.copy()).requires_grad_()
    found = Measure(name, 0.3)(torch.from_numpy(TEACHER), student)
    found.sum().backward()
    assert float(found.detach().abs().max()) < 1e-14
    assert float(student.grad.abs().max()) < 1e-14  # type: ignore[union-attr]
    certain = torch.tensor([[90.0, -90.0, -torch.inf], [0.0, 80.0, -torch.inf]], requires_grad=True)
    Measure(name, 0.3)(torch.tensor([[-90.0, 90.0, -torch.inf]] * 2), certain).sum().backward()
    assert torch.isfinite(certain.grad).all()  # type: ignore[arg-type]


def test_jsd_tends_to_both_divergences() -> None:
    sides = torch.from_numpy(TEACHER), torch.from_numpy(STUDENT)
    low, high = (Measure("jsd", beta)(*sides).numpy() for beta in (1e-9, 1 - 1e-9))
    assert low / 1e-9 == pytest.approx(reference("forward_kl", 0, TEACHER, STUDENT), rel=1e-4)
    assert high / 1e-9 == pytest.approx(reference("reverse_kl", 0, TEACHER, STUDENT), rel=1e-4)


def test_another_name_is_none() -> None:
    with pytest.raises(ValueError, match="unknown divergence 'kl'"):
        Measure("kl", 0.5)(torch.zeros(1, 2), torch.zeros(1, 2))


class Widest(TorchDispatchMode):
    """The most numbers that a tensor with the vocabulary as its last dimension has had."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **kwargs or {})
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(one, Tensor) and one.dim() > 1 and one.shape[-1] == V:
                self.numbers = max(self.numbers, one.numel())
        return found


@pytest.mark.parametrize("of_teacher", FORMS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_at_answer_tokens_they_are_means_of_dense_ones_whatever_layers_both_sides_have(
    name: str, form: str, of_teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", 4)
    then, now = layer(of_teacher), layer(form)
    teacher = AnswerLosses(lambda: then).bound(rows(then))
    student, losses = rows(now), AnswerLosses(lambda: now)
    weights = torch.arange(1, len(LENGTHS) + 1).double()
    with Widest() as widest:
        found = losses.divergence(student, BATCH, teacher, Measure(name, 0.3))
        (found * weights).sum().backward()
    # A chunk of 4 tokens at a time, on either side; the layer itself, turned round, has H rows.
    assert widest.numbers <= max(4, H) * V < T * V
    z_then, z_now = dense_logits(then, teacher).detach(), dense_logits(now, student)
    of_tokens = reference(name, 0.3, z_then.numpy(), z_now.detach().numpy())
    expected = np.array([part.mean() for part in dense.split(of_tokens, LENGTHS)])
    assert found.detach().numpy() == pytest.approx(expected, rel=1e-10)

    leaves = [*(w for w in now.weights if w is not None), *student.inputs, *([] if now.bias is None else [now.bias])]
    ours = [leaf.grad.clone() for leaf in leaves]  # type: ignore[union-attr]
    owners = torch.repeat_interleave(torch.from_numpy(LENGTHS))
    shares = weights[owners] / torch.from_numpy(LENGTHS)[owners]
    theirs = torch.autograd.grad((Measure(name, 0.3)(z_then, z_now) * shares).sum(), leaves)
    for own, other in zip(ours, theirs, strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-12)
    assert all(w is None or w.grad is None for w in then.weights)


def test_a_snapshot_takes_what_it_lacks_from_the_model_and_another_model_lends_nothing() -> None:
    """A teacher without a bias beside a student with one: the student's is not the teacher's."""
    then, now = layer("plain"), layer("biased")
    teacher = AnswerLosses(lambda: then).bound(rows(then))
    assert AnswerLosses(lambda: now)._layer(teacher) is teacher.output
    fixed = OutputLayer(tuple(w.detach() for w in now.weights if w is not None), now.bias)
    kept = AnswerLosses(lambda: fixed).snapshot(rows(now))
    assert AnswerLosses(lambda: fixed)._layer(kept).weights[0] is fixed.weights[0]


def test_classes_have_them_as_well_and_a_regression_none() -> None:
    teacher, student = torch.from_numpy(TEACHER), torch.from_numpy(STUDENT)
    found = ClassificationLosses().divergence(student, BATCH, teacher, Measure("jsd", 0.2))
    assert found.numpy() == pytest.approx(reference("jsd", 0.2, TEACHER, STUDENT))
    with pytest.raises(ValueError, match="no distribution"):
        RegressionLosses(1.0).divergence(student, BATCH, teacher, Measure("jsd", 0.2))
