"""gkd and sdft: loss and gradient from Hugging Face's whole logits, their limits, which steps draw, what is kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.errors import UserError
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.divergences import Measure
from selfdistill_cli.methods import GKD, KD, SDFT, Method, TrainingContext
from tests.helpers.dense_logits import answer_logits, flat_gradient
from tests.helpers.loops import make_loop
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import enlarge, make_context, make_examples, make_model, writer_of

KINDS = ["decoder", "encoder_decoder"]
ROWS = list(range(8))
DRAWING: dict[str, Any] = {"temperature": 0.7, "divergence": "jsd", "beta": 0.3}


def made(kind: str) -> tuple[Any, Any, TrainingContext]:
    """Examples, a model whose prompts matter and that is not the teacher, and the context of a method."""
    examples, model = make_examples(kind), make_model(kind)
    enlarge(model)
    update(model, 0.1)
    return examples, model, make_context(kind, examples, model)


def gkd(context: TrainingContext, **changes: Any) -> GKD:
    return GKD(context, **{"lambda_": 1.0} | DRAWING | changes)


def sdft(context: TrainingContext, **changes: Any) -> SDFT:
    settings: dict[str, Any] = {"demonstration": "{answer}{prompt}", "weights": "current", "ema_beta": 0.5}
    return SDFT(context, **settings | DRAWING | changes)


def step(model: Any, method: Method, examples: Any, budget: int = 200) -> tuple[float, Tensor]:
    """Loss and gradient of a step."""
    model.zero_grad()
    result = backward_step(model, method, examples, method.plan(ROWS, 0.0), cpu_runtime(budget))
    return result.loss, flat_gradient(model)


def update(model: Any, size: float = 0.01) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight += size * torch.sin(100 * weight)


def expected_step(
    student: Any, teacher: Any, prompts: list[Any], answers: Any, measure: Measure
) -> tuple[float, Tensor]:
    """mean_i mean_s D, of whole logits. prompts: the student's and the teacher's, as flat rows."""
    student.zero_grad()
    losses = []
    for row in ROWS:
        with torch.no_grad():
            taught = answer_logits(teacher, prompts[1].row(row), answers[row])
        losses.append(
            measure(taught.double(), answer_logits(student, prompts[0].row(row), answers[row]).double()).mean()
        )
    loss = torch.stack(losses).mean()
    loss.backward()
    return loss.item(), flat_gradient(student)


def assert_close(ours: tuple[float, Tensor], theirs: tuple[float, Tensor]) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)
    assert float((ours[1] - theirs[1]).norm() / theirs[1].norm()) < 1e-4


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("kind", KINDS)
def test_gkd_is_the_written_loss_along_the_drawn_answers(kind: str, divergence: str) -> None:
    examples, model, context = made(kind)
    method, reference = gkd(context, divergence=divergence), copy.deepcopy(model)
    answers = writer_of(examples, model, cpu_runtime()).draw(ROWS, 0, 0.7)
    assert any(len(answers[row]) != examples.answers.lengths[row] for row in ROWS)
    ours = step(model, method, examples)
    assert context.teacher is not None
    theirs = expected_step(reference, context.teacher.model, [examples.prompts] * 2, answers, method.measure)
    assert_close(ours, theirs)
    assert all(weight.grad is None for weight in context.teacher.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_gkd_without_drawing_and_with_forward_kl_is_kd_from_that_teacher_token_by_token(kind: str) -> None:
    examples, model, context = made(kind)
    assert context.teacher is not None
    of_teacher: Any = context.teacher.losses
    kept = cpu_runtime().predict(context.teacher.model, examples, lambda rows: of_teacher.top_entries(rows, 100))
    kd = KD(replace(context, teacher_logits=kept), tau=1.0, alpha=0.0)
    ours = step(model, gkd(context, lambda_=0.0, divergence="forward_kl"), examples)
    assert_close(ours, step(model, kd, examples))


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_so_many_steps_draw(lambda_: float) -> None:
    method = gkd(made("decoder")[2], lambda_=lambda_)
    drawn = np.array([method.draws(number) for number in range(2000)])
    assert drawn.mean() == pytest.approx(lambda_, abs=4 * np.sqrt(lambda_ * (1 - lambda_) / 2000))
    if 0 < lambda_ < 1:  # nor do they follow each other more often than independent ones would
        assert drawn[1:][drawn[:-1]].mean() == pytest.approx(lambda_, abs=0.08)


@pytest.mark.parametrize("kind", KINDS)
def test_sdft_is_the_written_loss_with_the_starting_weights_behind_the_demonstration(kind: str) -> None:
    examples, model, context = made(kind)
    method, start = sdft(context, weights="start"), copy.deepcopy(model).eval()
    method.before_training(model)
    update(model)
    reference = copy.deepcopy(model)
    writer = writer_of(examples, model, cpu_runtime())
    answers, demonstrated = writer.draw(ROWS, 0, 0.7), writer.prompted("{answer}{prompt}")
    ours = step(model, method, examples)
    prompts = [examples.prompts, demonstrated.prompts]
    assert_close(ours, expected_step(reference, start, prompts, answers, method.measure))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
def test_sdft_without_a_demonstration_and_with_its_own_weights_has_nothing_to_learn(kind: str, divergence: str) -> None:
    examples, model, context = made(kind)
    demonstrated, of_demonstrated = step(model, sdft(context, divergence=divergence), examples)
    loss, gradient = step(model, sdft(context, demonstration="{prompt}", divergence=divergence), examples)
    assert demonstrated > 1e-3
    assert loss == pytest.approx(0, abs=1e-6)
    assert float(gradient.norm() / of_demonstrated.norm()) < 1e-4


def test_the_average_without_memory_is_the_weights_of_now() -> None:
    examples, model, context = made("decoder")
    average, current = sdft(context, weights="ema", ema_beta=0.0), sdft(context)
    average.before_training(model)
    before = step(model, sdft(context), examples)
    assert_close(step(model, average, examples), before)
    update(model)
    average.after_step(model)
    current.steps = 1
    assert_close(step(model, average, examples), step(model, current, examples))


@pytest.mark.parametrize("make", [gkd, sdft])
def test_a_step_logs_how_long_its_answers_are_and_what_is_forwarded(make: Any) -> None:
    examples, model, context = made("decoder")
    method = make(context)
    method.before_training(model)
    result = backward_step(model, method, examples, method.plan(ROWS, 0.0), cpu_runtime(200))
    lengths = [len(method.drawn[row]) for row in ROWS]
    assert result.signals["drawn_tokens/mean"] == pytest.approx(np.mean(lengths))
    assert result.per_example["drawn_tokens"] == lengths
    assert result.tokens == sum(int(examples.prompts.lengths[row]) for row in ROWS) + sum(lengths)
    assert result.beside.forward == len(ROWS)
    assert result.parts["loss/divergence"] == pytest.approx(result.loss)


@pytest.mark.parametrize(
    ("make", "changes"), [(gkd, {"lambda_": 0.5}), (sdft, {"weights": "ema"}), (sdft, {"weights": "start"})]
)
def test_a_run_that_was_stopped_draws_on_as_the_undisturbed_one(
    make: Any, changes: dict[str, Any], tmp_path: Any
) -> None:
    losses = []
    for stops in ([9], [5, 9]):
        folder, found = tmp_path / str(len(stops)), []
        for last in stops:  # a second loop goes on from what the first has written
            examples, model, context = made("decoder")
            loop = make_loop(model, make(context, **changes), examples, cpu_runtime(), folder, epochs=3, keep="last")
            loop.total_steps = last
            loop.run()
            loop._save()
            found += [row["loss"] for row in loop.recorder.rows if row["kind"] == "train"]  # type: ignore[attr-defined]
        losses.append(found)
    assert len(losses[0]) == 9
    assert losses[0] == losses[1]
    assert Checkpoints(tmp_path / "2").load_newest()["method"]["steps"] == 9  # type: ignore[index]


def test_where_nothing_is_written_or_no_teacher_is_held_nothing_can_be_made() -> None:
    _, _, context = made("decoder")
    with pytest.raises(UserError, match="this task has none"):
        sdft(replace(context, make_writer=None))
    with pytest.raises(ValueError, match="needs the teacher itself"):
        gkd(replace(context, teacher=None))
    assert isinstance(context.losses, AnswerLosses)
