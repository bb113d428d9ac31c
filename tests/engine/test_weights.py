"""Weights of examples in a step: integer weights are repetitions, 0 drops out, and every part carries them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from selfdistill_cli.engine.method import MicroBatch, PerExampleLoss
from selfdistill_cli.engine.step import backward_step
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import KINDS, SIZE, make_examples, make_methods, make_model


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def vanilla_step(kind: str, rows: list[int], weights: np.ndarray | None) -> tuple[torch.Tensor, float]:
    examples, model = make_examples(kind), make_model(kind)
    if weights is not None:
        examples = replace(examples, weights=weights.astype(np.float32))
    method = make_methods(kind, examples, model)["vanilla"]
    result = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(200))
    assert result.parts["loss/ce"] == pytest.approx(result.loss)
    return gradient(model), result.loss


@pytest.mark.parametrize("kind", KINDS)
def test_integer_weights_are_repetitions_of_examples(kind: str) -> None:
    times = np.array([2, 0, 1, 3, 0, 1])
    weights = np.zeros(SIZE)
    weights[:6] = times / times.mean()
    ours, loss = vanilla_step(kind, list(range(6)), weights)
    repeated, expected = vanilla_step(kind, np.repeat(np.arange(6), times).tolist(), None)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert float((ours - repeated).norm() / repeated.norm()) < 1e-5


@pytest.mark.parametrize("name", ["static_sd", "dynsdpb", "dynsdpb_whole_step", "kd", "dcs"])
def test_weights_multiply_both_occurrences_and_all_parts_of_every_methods_loss(name: str) -> None:
    """The second step, in micro-batches of few examples, against the whole batch's losses weighed by hand."""
    weights = np.random.default_rng(3).uniform(0, 3, SIZE).astype(np.float32)
    examples, model = replace(make_examples("classification"), weights=weights), make_model("classification")
    method = make_methods("classification", examples, model)[name]
    first = method.plan(list(range(10)), 1.0)
    method.after_backward(first, backward_step(model, method, examples, first, cpu_runtime()).logits)
    model.zero_grad()
    plan = method.plan(list(range(10, 20)), 1.0)
    rows = np.asarray(plan.examples)
    logits = examples.forward(model, examples.collate(rows), torch.device("cpu"))
    labels = torch.from_numpy(examples.labels[rows])
    loss = method.loss(logits, MicroBatch(plan, torch.arange(len(rows)), torch.from_numpy(rows), labels))
    of_rows = torch.from_numpy(weights[rows])
    (loss.total * of_rows).sum().backward()
    expected, parts = (
        gradient(model),
        {part: float((value * of_rows).sum().detach()) for part, value in loss.parts.items()},
    )
    model.zero_grad()
    result = backward_step(model, method, examples, plan, cpu_runtime(150))
    assert result.loss == pytest.approx(float((loss.total * of_rows).sum().detach()), rel=1e-5)
    assert {part: result.parts[f"loss/{part}"] for part in parts} == pytest.approx(parts, rel=1e-4)
    assert len(parts) == 2
    assert float((gradient(model) - expected).norm() / expected.norm()) < 1e-5


def test_signals_are_not_weighed() -> None:
    loss = PerExampleLoss(torch.ones(2), {"ce": torch.ones(2)}, {"u": torch.ones(2)}, torch.arange(2))
    found = loss.weighted(torch.tensor([2.0, 0.0]))
    assert found.total.tolist() == found.parts["ce"].tolist() == [2, 0]
    assert found.signals["u"].tolist() == [1, 1]
    assert loss.weighted(None) is loss
