"""One step on a real (tiny) transformer: cutting it changes nothing, padding changes nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from selfdistill_cli.encoding.labelled import LabelledExamples, Padding
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.methods import Method
from selfdistill_cli.models.concatenated import concatenate
from tests.helpers.runtimes import bf16_runtime, cpu_runtime
from tests.helpers.steps import (
    CASES,
    SIZE,
    gradients_of_second_step,
    make_examples,
    make_methods,
    make_model,
    prepare,
    second_step,
)

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_one_and_many_micro_batches_give_the_same_gradient(kind: str, name: str) -> None:
    one, loss_of_one = gradients_of_second_step(kind, name, batching=Batching(10**9))
    many, loss_of_many = gradients_of_second_step(kind, name, batching=Batching(1))  # one example each
    assert loss_of_many == pytest.approx(loss_of_one, rel=1e-5)
    assert float((one - many).norm() / one.norm()) < 1e-5


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in CASES if name in ("vanilla", "dynsdpb")])
def test_few_shapes_give_the_same_gradient(kind: str, name: str) -> None:
    one, loss_of_one = gradients_of_second_step(kind, name, batching=Batching(10**9))
    few, loss_of_few = gradients_of_second_step(kind, name, batching=Batching.of_few_shapes(200))
    assert float((one - few).norm() / one.norm()) < 1e-5
    assert loss_of_few == pytest.approx(loss_of_one, rel=1e-5)


class Casts(TorchDispatchMode):
    """Counts casts of tensors of one shape to bf16."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default and args[0].shape == self.shape:
            self.count += (kwargs or {}).get("dtype") is torch.bfloat16
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["vanilla", "dynsdpb", "mft", "ema"])
@pytest.mark.parametrize("kind", ["classification", "decoder"])
def test_in_bf16_weights_are_cast_once_a_step_and_gradients_are_the_same_bits(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, casts = [], []
    for once in (True, False):
        if not once:
            monkeypatch.setattr(Runtime, "casting_weights_once", lambda self: contextlib.nullcontext())
        examples, model = make_examples(kind), make_model(kind)
        method = make_methods(kind, examples, model)[name]
        prepare(method, model)
        with bf16_runtime(Batching(60)) as runtime, Casts((64, 32)) as counted:  # a weight's shape
            backward_step(runtime.prepare(model), method, examples, method.plan(list(range(12)), 1.0), runtime)
        casts.append(counted.count)
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert casts[0] <= casts[1]
    if name == "vanilla":  # mft and ema predict beside, and cast anew after that
        assert casts[1] > 2 * casts[0]
        assert casts[0] == sum(p.shape == (64, 32) for p in model.parameters())


WITHOUT_PADDING = [(kind, name) for kind, name in CASES if kind != "encoder_decoder" and name != "rdrop"]
"""Without R-Drop, whose two passes differ here by rows of a padded batch."""


@pytest.mark.parametrize(("kind", "name"), WITHOUT_PADDING)
def test_a_step_without_padding_gives_the_same_gradient(kind: str, name: str) -> None:
    def make(examples: Any, model: Any) -> Method:
        assert concatenate(model)
        return make_methods(kind, examples, model)[name]

    padded, loss_padded = gradients_of_second_step(kind, name, batching=Batching(10**9))
    for budget in (10**9, 60):
        found, loss_found = second_step(kind, make, Batching(budget))
        assert float((padded - found).norm() / padded.norm()) < 1e-5
        assert loss_found == pytest.approx(loss_padded, rel=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
def test_a_language_model_gets_the_loss_of_hugging_face(kind: str) -> None:
    examples, model, reference = make_examples(kind), make_model(kind), make_model(kind)
    method = make_methods(kind, examples, model)["vanilla"]
    rows = list(range(12))
    result = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(10**9))
    losses = []
    for row in rows:  # one at a time: their own mean over tokens, then the mean over examples
        prompt, answer = (
            torch.from_numpy(part.row(row).astype(np.int64)) for part in (examples.prompts, examples.answers)
        )
        if kind == "decoder":
            labels = torch.cat([torch.full_like(prompt, -100), answer])
            losses.append(reference(input_ids=torch.cat([prompt, answer])[None], labels=labels[None]).loss)
        else:
            losses.append(reference(input_ids=prompt[None], labels=answer[None]).loss)
    torch.stack(losses).mean().backward()
    assert result.loss == pytest.approx(float(torch.stack(losses).detach().mean()), rel=1e-5)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model, reference)
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def test_a_step_gives_the_gradient_of_one_padded_batch() -> None:
    examples = make_examples("classification")
    rows = list(range(12))
    model, reference = make_model("classification"), make_model("classification")
    method = make_methods("classification", examples, model)["vanilla"]
    result = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime())
    inputs = examples.collate(np.asarray(rows))
    loss = reference(**inputs, labels=torch.from_numpy(examples.labels[rows])).loss  # Hugging Face's own cross-entropy
    loss.backward()
    assert result.loss == pytest.approx(float(loss), rel=1e-6)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model, reference)
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def test_kept_logits_stand_in_the_order_of_the_plan() -> None:
    examples, model = make_examples("classification"), make_model("classification")
    method = make_methods("classification", examples, model)["vanilla"]
    rows = [7, 3, 25, 11, 0]
    result = backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(60))
    expected = cpu_runtime().predict(model, examples)[rows]
    assert isinstance(result.logits, torch.Tensor)
    assert torch.allclose(result.logits, expected, atol=1e-6)


def test_prediction_does_not_depend_on_neighbours_or_padding() -> None:
    examples, model = make_examples("classification"), make_model("classification").eval()
    together = cpu_runtime().predict(model, examples)
    with torch.no_grad():
        alone = torch.cat(
            [examples.forward(model, examples.collate(np.array([i])), torch.device("cpu")) for i in range(SIZE)]
        )
    assert torch.allclose(together, alone, atol=1e-6)


def test_prediction_leaves_training_mode_and_random_state_alone() -> None:
    examples, model = make_examples("classification"), make_model("classification").train()
    before = torch.get_rng_state()
    cpu_runtime().predict(model, examples)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("side", ["left", "right"])
def test_collate_pads_as_the_tokenizer_does(side: str) -> None:
    flat = np.array([11, 12, 13, 21, 31, 32], dtype=np.int32)
    examples = LabelledExamples(
        flat, None, np.array([0, 3, 4, 6]), np.zeros(3, np.int64), Padding(side, 9, 0), truncated=0
    )
    inputs = examples.collate(np.array([1, 0]))
    right = side == "right"
    assert inputs["input_ids"].tolist() == ([[21, 9, 9], [11, 12, 13]] if right else [[9, 9, 21], [11, 12, 13]])
    assert inputs["attention_mask"].tolist() == ([[1, 0, 0], [1, 1, 1]] if right else [[0, 0, 1], [1, 1, 1]])
