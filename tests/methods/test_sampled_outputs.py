"""static_sd and dynsdpb with `outputs=sampled`: the teacher is the map of an answer drawn one step ago."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.methods import DynSDPB, StaticSD
from tests.helpers import answers_reference as dense
from tests.helpers.dense_logits import answer_logits
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import enlarge, make_context, make_examples, make_model, writer_of

KINDS = ["decoder", "encoder_decoder"]
FIRST, SECOND = list(range(6)), list(range(6, 12))
SETTINGS: dict[str, Any] = {"tau": 2.0, "alpha": 1.0, "overlap": "append", "match": "vmm", "regression": "scaled"}
SETTINGS |= {"start_epoch": 0.0, "outputs": "sampled", "temperature": 0.7}
RULES: dict[str, Any] = {"tau_rule": "uncertainty", "alpha_rule": "discrimination", "signal": "previous"}
RULES |= {"granularity": "example", "discrimination": "gold"}


def made(kind: str) -> tuple[Any, Any, Any]:
    examples, model = make_examples(kind), make_model(kind)
    enlarge(model)
    return examples, model, make_context(kind, examples, model)


def two_steps(model: Any, method: StaticSD, examples: Any) -> Any:
    """The result of the second of two steps; between them the weights change."""
    for fresh in (FIRST, SECOND):
        plan = method.plan(fresh, 1.0)
        result = backward_step(model, method, examples, plan, cpu_runtime(200))
        method.after_backward(plan, result.logits)
        if fresh is FIRST:
            update(model)
    return result


def update(model: Any) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.sin(100 * weight)


def whole_logits(model: Any, examples: Any, rows: list[int], answers: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of all answer tokens of these rows one after the other, and how many each has."""
    with torch.no_grad():
        found = [answer_logits(model, examples.prompts.row(row), answers[row]).double().numpy() for row in rows]
    return np.concatenate(found), np.array([len(one) for one in found])


@pytest.mark.parametrize("overlap", ["append", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_drawn_answer_of_the_step_before_teaches_by_its_map(kind: str, overlap: str) -> None:
    examples, model, context = made(kind)
    then = copy.deepcopy(model).eval()
    now = copy.deepcopy(model).eval()
    update(now)
    result = two_steps(model, StaticSD(context, **SETTINGS | {"overlap": overlap}), examples)
    drawn = writer_of(examples, then, cpu_runtime()).draw(FIRST, 0, 0.7)
    gold = {row: examples.answers.row(row) for row in range(12)}
    assert any(len(drawn[row]) != len(gold[row]) for row in FIRST)  # lengths really differ
    tau = np.full(6, 2.0)
    teacher = dense.maps(*whole_logits(then, examples, FIRST, drawn), tau)
    if overlap == "append":
        student = dense.maps(*whole_logits(now, examples, FIRST, gold), tau)
        expected = 4 * dense.kl(teacher, student).mean()
    else:
        student = dense.maps(*whole_logits(now, examples, SECOND, gold), tau)
        expected = 4 * dense.kl(teacher.mean(0), student.mean(0))
    assert result.parts["loss/kd"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_u_is_read_off_the_drawn_answer_and_d_off_the_gold_one(kind: str) -> None:
    examples, model, context = made(kind)
    then = copy.deepcopy(model).eval()
    result = two_steps(model, DynSDPB(context, **SETTINGS, **RULES), examples)
    drawn = writer_of(examples, then, cpu_runtime()).draw(FIRST, 0, 0.7)
    gold = {row: examples.answers.row(row) for row in FIRST}
    z, lengths = whole_logits(then, examples, FIRST, drawn)
    u, _ = dense.signals(z, np.concatenate([drawn[row] for row in FIRST]), lengths)
    z, lengths = whole_logits(then, examples, FIRST, gold)
    _, d = dense.signals(z, np.concatenate([gold[row] for row in FIRST]), lengths)
    assert result.per_example["examples"] == FIRST
    assert result.per_example["uncertainty"] == pytest.approx(u, rel=1e-4)
    assert result.per_example["discrimination"] == pytest.approx(d, rel=1e-4)
    assert result.per_example["tau"] == pytest.approx(2 * (1 + u), rel=1e-4)


def test_a_delayed_start_draws_from_the_step_before_it_on() -> None:
    examples, model, context = made("decoder")  # 30 examples, 10 a step: three steps an epoch
    method = StaticSD(context, **SETTINGS | {"start_epoch": 1.0})
    for number, drawings in enumerate([0, 0, 1, 2]):
        plan = method.plan(FIRST, number / 3)
        result = backward_step(model, method, examples, plan, cpu_runtime())
        method.after_backward(plan, result.logits)
        assert method.drawings == drawings
        assert (result.parts["loss/kd"] > 0) == (number == 3)


@pytest.mark.parametrize("overlap", ["append", "none"])
@pytest.mark.parametrize("granularity", ["example", "batch"])
def test_constant_rules_are_static_sd_bit_for_bit(overlap: str, granularity: str) -> None:
    found = []
    rules = RULES | {"tau_rule": "constant", "alpha_rule": "constant", "granularity": granularity}
    for settings, kind in ((SETTINGS, StaticSD), (SETTINGS | rules, DynSDPB)):
        examples, model, context = made("decoder")
        result = two_steps(model, kind(context, **settings | {"overlap": overlap}), examples)
        found.append((result.loss, result.parts))
    assert found[0] == found[1]


@pytest.mark.parametrize("granularity", ["example", "batch"])
def test_what_a_continued_run_needs_is_in_the_state(granularity: str) -> None:
    examples, model, context = made("decoder")
    methods = [DynSDPB(context, **SETTINGS, **RULES | {"granularity": granularity}) for _ in range(2)]
    plan = methods[0].plan(FIRST, 1.0)
    result = backward_step(model, methods[0], examples, plan, cpu_runtime())
    methods[0].after_backward(plan, result.logits)
    methods[1].load_state_dict(methods[0].state_dict())
    losses = []
    for method in methods:
        plan = method.plan(SECOND, 1.0)
        result = backward_step(model, method, examples, plan, cpu_runtime())
        losses.append((result.loss, result.parts, result.per_example, method.drawings))
    assert losses[0] == losses[1]
    assert losses[0][-1] == 2
