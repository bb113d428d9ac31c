"""A step reads no value of what it computes, so that a card need never be waited for: every method and kind of task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfdistill_cli.engine.results import fetched
from selfdistill_cli.engine.step import backward_step
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import CASES, KINDS, make_examples, make_methods, make_model, prepare
from tests.helpers.waiting import Waits, as_on_a_card


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_no_step_waits(kind: str, name: str) -> None:
    examples, model, runtime = make_examples(kind), make_model(kind), cpu_runtime(200)
    method = make_methods(kind, examples, model)[name]
    prepare(method, model)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    results, norms = [], []
    with as_on_a_card() as waits:
        for fresh in (list(range(10)), list(range(10, 20))):
            plan = method.plan(fresh, 1.0)
            results.append(backward_step(model, method, examples, plan, runtime, records_answers=True))
            norms.append(runtime.accelerator.clip_grad_norm_(model.parameters(), 1.0))
            method.after_backward(plan, results[-1].logits)
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(model)
    assert waits.found == []
    arrived, _ = fetched(results, norms)
    assert [one.loss for one in arrived] == [one.loss for one in results]


def test_what_would_wait_is_noticed() -> None:
    values = torch.arange(4.0)
    with Waits() as waits:
        float(values.sum())
        values[values > 1]
        torch.zeros(2, 2).scatter_add_(1, torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1))
    assert [one.split(":")[0] for one in waits.found] == ["a value is read", "a mask selects", "scattered"]


def test_models_themselves_look_for_padding() -> None:
    """Which is why they are told: were this no longer so, `models.masks` could go."""
    examples, model = make_examples("classification"), make_model("classification")
    with Waits() as waits:
        examples.forward(model, examples.collate(np.arange(4)), torch.device("cpu"))
    assert waits.found
    with as_on_a_card() as waits:
        examples.forward(model, examples.collate(np.arange(4)), torch.device("cpu"))
    assert not waits.found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [np.arange(4), np.array([2])])
def test_predictions_are_the_same_whoever_looks_for_padding(kind: str, rows: np.ndarray) -> None:
    examples, model = make_examples(kind), make_model(kind).eval()
    batch = examples.collate(rows)
    looked_for = examples.forward(model, batch, torch.device("cpu"))
    with as_on_a_card():
        known = examples.forward(model, batch, torch.device("cpu"))
    tensors = (looked_for, known) if isinstance(known, torch.Tensor) else (looked_for.inputs[0], known.inputs[0])
    assert torch.equal(*tensors)
