"""What a kind of task says of settings, and the loss of a method's own on each."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from selfdistill_cli.engine.method import MicroBatch, StepPlan
from selfdistill_cli.engine.predictions import OutputLayer, TokenRows
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS
from selfdistill_cli.losses import chunked
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.labelled import ClassificationLosses, RegressionLosses
from tests.helpers.runs import composed

WRITES = ["task=custom", "task.path=x", "task.text=q"]
REFUSED = {
    "classification": (["method.overlap=none"], "nothing to compare"),
    "regression": (["method.discrimination=margin"], "class probabilities"),
    "generation": (["task.answer=null"], "needs task.answer"),
    "multiple_choice": (["task.choices=null"], "needs task.choices"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_knows_the_settings_that_it_goes_with(kind: str) -> None:
    good = composed(*WRITES, "task.answer=a", "task.choices=c", f"task.kind={kind}")
    KINDS[kind].check(good)
    overrides, words = REFUSED[kind]
    bad = composed(*WRITES, "task.answer=a", "task.choices=c", f"task.kind={kind}", *overrides)
    with pytest.raises(UserError, match=re.escape(words)):
        KINDS[kind].check(bad)


@pytest.mark.parametrize("kind", KINDS)
def test_only_classes_can_be_noisy_and_defaults_are_allowed(kind: str) -> None:
    noisy = composed(*WRITES, "task.answer=a", "task.choices=c", f"task.kind={kind}", "task.label_noise=0.1")
    assert set(KINDS[kind].default_metrics) <= set(KINDS[kind].metrics)
    if kind == "classification":
        KINDS[kind].check(noisy)
        return
    with pytest.raises(UserError, match="only classes can be replaced"):
        KINDS[kind].check(noisy)


def negative_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits.log_softmax(-1)
    return (log_p.exp() * log_p).sum(-1)


def with_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([negative_entropy(logits, labels), logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]], -1)


def batch_of(labels: Tensor | None, m: int) -> MicroBatch:
    rows = torch.arange(m)
    return MicroBatch(StepPlan(rows.tolist(), 0.0), rows, rows, labels)


def test_a_loss_of_ones_own_sees_the_logits_of_examples() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 2, 1, 1, 0])
    found = ClassificationLosses().of_logits(negative_entropy, logits, batch_of(labels, 5))
    p = logits.detach().softmax(-1)
    assert torch.allclose(found, (p * p.log()).sum(-1), atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert float(slope.abs().sum()) > 0
    with pytest.raises(UserError, match="predicts a single number"):
        RegressionLosses(5.0).of_logits(negative_entropy, logits[:, 0], batch_of(labels.float(), 5))


@pytest.mark.parametrize("chunk", [1, 4, 128])
def test_a_loss_of_ones_own_is_the_mean_over_answer_tokens_with_its_gradient(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", chunk)
    torch.manual_seed(0)
    lengths, hidden = torch.tensor([3, 1, 5]), torch.randn(9, 4, dtype=torch.double, requires_grad=True)
    weight, labels = torch.randn(11, 4, dtype=torch.double, requires_grad=True), torch.randint(0, 11, (9,))
    rows = TokenRows(lengths, {"labels": labels, "input0": hidden})
    losses = AnswerLosses(lambda: OutputLayer((weight,), None))
    found = losses.of_logits(with_likelihood, rows, batch_of(None, 3))
    dense = with_likelihood(hidden @ weight.T, labels)
    expected = torch.stack([part.mean(0) for part in dense.split([3, 1, 5])])
    assert torch.allclose(found, expected)
    ours = torch.autograd.grad((found * torch.tensor([1.0, -0.5])).sum(), [hidden, weight])
    theirs = torch.autograd.grad((expected * torch.tensor([1.0, -0.5])).sum(), [hidden, weight])
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
    assert losses.of_logits(negative_entropy, rows, batch_of(None, 3)).shape == (3,)
