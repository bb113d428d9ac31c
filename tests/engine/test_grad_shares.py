"""The gradient of each part of a loss at the output layer: against closed forms, however a step is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from selfdistill_cli.engine.grad_shares import STEPS_APART, STEPS_OF_ANSWERS, grad_shares, recorded
from selfdistill_cli.engine.results import StepResult
from selfdistill_cli.engine.step import backward_step
from tests.helpers.loops import make_loop
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import CASES, SIZE, make_examples, make_methods, make_model, prepare

WEIGHTS = np.random.default_rng(1).uniform(0, 2, SIZE).astype(np.float32)


def second_step(kind: str, name: str, budget: int, records: bool = True) -> tuple[StepResult, Any, Any]:
    """The result of a method's second step on weighted examples, after an update of the weights; model and method."""
    examples, model, runtime = replace(make_examples(kind), weights=WEIGHTS), make_model(kind), cpu_runtime(budget)
    method = make_methods(kind, examples, model)[name]
    prepare(method, model)
    for fresh in (list(range(10)), list(range(10, 20))):
        model.zero_grad()
        plan = method.plan(fresh, 1.0)
        result = backward_step(model, method, examples, plan, runtime, records)
        if fresh[0] == 0:
            method.after_backward(plan, result.logits)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * torch.sin(100 * parameter)
            method.after_step(model)
    return result, model, method


def test_labels_against_the_closed_form() -> None:
    """∂CE/∂z = (p − y) / n, and ∂(α τ² KL)/∂z = α τ (p(z; τ) − p(z^prev; τ)) / n, both times the example's weight."""
    result, _, method = second_step("classification", "static_sd", 300)
    logits, previous = result.logits.double().numpy(), method._teacher.double().numpy()
    labels = make_examples("classification").labels
    rows = [*range(10, 20), *range(10)]
    weights = WEIGHTS[rows, None]
    of_labels = weights * (softmax(logits, axis=-1) - np.eye(3)[labels[rows]]) / 20
    tau = 3.0
    taught = weights[10:] * tau * (softmax(logits[10:] / tau, axis=-1) - softmax(previous / tau, axis=-1)) / 10
    expected = np.linalg.norm(taught) / np.linalg.norm(of_labels)
    assert result.grad_shares == {"grad_share/kd": pytest.approx(expected, rel=1e-4)}


def test_answers_against_dense_logits() -> None:
    """The whole [tokens, vocabulary] at once, in float64, and a map for each example."""
    result, model, _ = second_step("decoder", "static_sd", 300)
    examples, tau = make_examples("decoder"), 3.0
    model.double()
    layer = model.get_output_embeddings().weight.detach()
    before = make_model("decoder").double()  # as it was one step ago
    ours, theirs = torch.zeros(()), torch.zeros(())
    for row in [*range(10, 20), *range(10)]:
        batch = examples.collate(np.array([row]))
        hidden = examples.forward(model, batch, torch.device("cpu")).inputs[0].detach().requires_grad_()
        logits = hidden @ layer.T
        ce = WEIGHTS[row] * torch.nn.functional.cross_entropy(logits, batch.labels) / 20
        ours = ours + torch.autograd.grad(ce, hidden, retain_graph=True)[0].square().sum()
        if row < 10:
            earlier = examples.forward(before, batch, torch.device("cpu")).inputs[0].detach()
            teacher = (earlier @ before.get_output_embeddings().weight.T / tau).softmax(-1).mean(0).detach()
            student = (logits / tau).softmax(-1).mean(0)
            kd = WEIGHTS[row] * tau**2 * (teacher * (teacher / student).log()).sum() / 10
            theirs = theirs + torch.autograd.grad(kd, hidden)[0].square().sum()
    assert result.grad_shares == {"grad_share/kd": pytest.approx(float((theirs / ours).sqrt()), rel=1e-3)}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_step_may_be_cut_anywhere_and_a_single_part_has_no_share(kind: str, name: str) -> None:
    whole, _, _ = second_step(kind, name, 10**9)
    cut, _, _ = second_step(kind, name, 1)
    assert cut.grad_shares == pytest.approx(whole.grad_shares, rel=1e-4)
    assert {name.replace("grad_share", "loss") for name in whole.grad_shares} == set(list(whole.parts)[1:])
    assert all(share > 0 for share in whole.grad_shares.values())


@pytest.mark.parametrize(("kind", "name"), [("classification", "dynsdpb"), ("decoder", "static_sd_none")])
def test_comparing_changes_no_bit_of_the_gradient(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, model, _ = second_step(kind, name, 300)
    assert compared.grad_shares
    monkeypatch.setattr("selfdistill_cli.engine.step.squared_norms", lambda *_: {})
    left_alone, other, _ = second_step(kind, name, 300)
    assert not left_alone.grad_shares
    assert compared.loss == left_alone.loss
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)


def test_shares_of_processes_and_micro_batches_add_up() -> None:
    pieces = [{"ce": 4.0, "kd": 1.0, "map": 0.0}, {}, {"ce": 12.0, "kd": 3.0, "map": 1.0}]
    assert grad_shares(pieces) == {"grad_share/kd": 0.5, "grad_share/map": 0.25}
    assert grad_shares([]) == {}
    assert grad_shares([{"ce": 0.0, "kd": 1.0}]) == {}


@pytest.mark.parametrize(("steps", "fewest"), [(1, 1), (29, 2), (61, 4), (600, 30), (1000, 29), (12345, 30)])
def test_answers_are_compared_in_few_steps_and_in_the_last_one(steps: int, fewest: int) -> None:
    chosen = [step for step in range(1, steps + 1) if recorded(step, steps)]
    assert fewest <= len(chosen) <= min(STEPS_OF_ANSWERS, steps // STEPS_APART) + 1
    assert chosen[-1] == steps


def test_the_rows_of_a_run_have_them(tmp_path: Path) -> None:
    examples, model = make_examples("classification"), make_model("classification")
    method = make_methods("classification", examples, model)["static_sd"]
    loop = make_loop(model, method, examples, cpu_runtime(), tmp_path, max_steps=3)
    loop.run()
    trained = [row for row in loop.recorder.rows if row["kind"] == "train"]  # type: ignore[attr-defined]
    assert [row["grad_share/kd"] > 0 for row in trained] == [False, True, True]  # the first step has no previous batch
