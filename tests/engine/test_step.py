"""One step on a real (tiny) transformer: cutting it changes nothing, padding changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import BertConfig, BertForSequenceClassification

from selfdistill_cli.encoding import Examples, Padding
from selfdistill_cli.engine.prediction import forward, predict
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.methods import DCS, KD, DynSDPB, Method, StaticSD, TrainingContext, Vanilla
from selfdistill_cli.methods.terms import ClassificationTerms, RegressionTerms

SIZE = 30


def make_examples(regression: bool) -> Examples:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 40, SIZE)
    labels = rng.uniform(0, 5, SIZE).astype(np.float32) if regression else rng.integers(0, 3, SIZE)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(5, 100, offsets[-1]).astype(np.int32)
    return Examples(tokens, np.zeros(offsets[-1], np.int8), offsets, labels, Padding("right", 0, 0), truncated=0)


def make_model(regression: bool) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=1 if regression else 3,
    )
    return BertForSequenceClassification(config)


def make_methods(regression: bool, examples: Examples) -> dict[str, Method]:
    torch.manual_seed(1)
    teacher = torch.randn(SIZE) if regression else torch.randn(SIZE, 3)
    terms = RegressionTerms(5.0) if regression else ClassificationTerms()
    context = TrainingContext(terms, torch.from_numpy(examples.labels), 10, teacher)
    static: dict[str, Any] = {"tau": 3.0, "alpha": 1.0, "overlap": "append", "start_epoch": 0.0}
    rules = {"tau_rule": "uncertainty", "alpha_rule": "discrimination", "discrimination": "gold"}
    return {
        "vanilla": Vanilla(context),
        "static_sd": StaticSD(context, **static),
        "dynsdpb": DynSDPB(context, **static, **rules, signal="previous", granularity="example"),
        "dynsdpb_whole_step": DynSDPB(context, **static, **rules, signal="current", granularity="batch"),
        "kd": KD(context, tau=2.0, alpha=0.5),
        "dcs": DCS(
            context,
            tau=2.0,
            alpha=0.5,
            lambda_=3.0,
            factor="lambda",
            reweighting="boosting",
            update="step",
            weight_on="both",
            max_weight=10.0,
            warmup_epochs=0,
            discordance_quantile=0.8,
        ),
    }


METHODS = ["vanilla", "static_sd", "dynsdpb", "dynsdpb_whole_step", "kd", "dcs"]


def gradients_of_second_step(name: str, regression: bool, token_budget: int) -> tuple[torch.Tensor, float]:
    """All gradients of a method's second step, flattened, and its loss."""
    examples, model, accelerator = make_examples(regression), make_model(regression), Accelerator(cpu=True)
    method = make_methods(regression, examples)[name]
    for fresh in (list(range(10)), list(range(10, 20))):
        model.zero_grad()
        plan = method.plan(fresh, 1.0)
        result = backward_step(model, method, examples, plan, token_budget, accelerator)
        method.after_step(plan, result.logits)
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return flat, result.loss


def gradients_of_single_example() -> torch.Tensor:
    """All gradients of a step of one example, flattened."""
    examples, model = make_examples(False), make_model(False)
    method = make_methods(False, examples)["vanilla"]
    backward_step(model, method, examples, method.plan([3], 0.0), 4096, Accelerator(cpu=True))
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("regression", [False, True], ids=["classification", "regression"])
@pytest.mark.parametrize("name", METHODS)
def test_one_and_many_micro_batches_give_the_same_gradient(name: str, regression: bool) -> None:
    one, loss_of_one = gradients_of_second_step(name, regression, token_budget=10**9)
    many, loss_of_many = gradients_of_second_step(name, regression, token_budget=1)  # one example each
    assert loss_of_many == pytest.approx(loss_of_one, rel=1e-5)
    assert float((one - many).norm() / one.norm()) < 1e-5


def test_a_step_gives_the_gradient_of_one_padded_batch() -> None:
    examples, accelerator = make_examples(regression=False), Accelerator(cpu=True)
    rows = list(range(12))
    model, reference = make_model(regression=False), make_model(regression=False)
    method = make_methods(False, examples)["vanilla"]
    result = backward_step(model, method, examples, method.plan(rows, 0.0), 4096, accelerator)
    inputs = examples.collate(np.asarray(rows))
    loss = reference(**inputs, labels=torch.from_numpy(examples.labels[rows])).loss  # Hugging Face's own cross-entropy
    loss.backward()
    assert result.loss == pytest.approx(float(loss), rel=1e-6)
    ours, theirs = (
        torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in (model, reference)
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


def test_kept_logits_stand_in_the_order_of_the_plan() -> None:
    examples, model = make_examples(regression=False), make_model(regression=False)
    method = make_methods(False, examples)["vanilla"]
    rows = [7, 3, 25, 11, 0]
    result = backward_step(model, method, examples, method.plan(rows, 0.0), 60, Accelerator(cpu=True))
    expected = predict(model, examples, 4096, Accelerator(cpu=True))[rows]
    assert torch.allclose(result.logits, expected, atol=1e-6)


def test_prediction_does_not_depend_on_neighbours_or_padding() -> None:
    examples, model = make_examples(regression=False), make_model(regression=False).eval()
    together = predict(model, examples, 4096, Accelerator(cpu=True))
    with torch.no_grad():
        alone = torch.cat([forward(model, examples, np.array([i]), torch.device("cpu")) for i in range(SIZE)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_prediction_leaves_training_mode_and_random_state_alone() -> None:
    examples, model = make_examples(regression=False), make_model(regression=False).train()
    before = torch.get_rng_state()
    predict(model, examples, 4096, Accelerator(cpu=True))
    assert model.training
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("side", ["left", "right"])
def test_collate_pads_as_the_tokenizer_does(side: str) -> None:
    flat = np.array([11, 12, 13, 21, 31, 32], dtype=np.int32)
    examples = Examples(flat, None, np.array([0, 3, 4, 6]), np.zeros(3, np.int64), Padding(side, 9, 0), truncated=0)
    inputs = examples.collate(np.array([1, 0]))
    right = side == "right"
    assert inputs["input_ids"].tolist() == ([[21, 9, 9], [11, 12, 13]] if right else [[9, 9, 21], [11, 12, 13]])
    assert inputs["attention_mask"].tolist() == ([[1, 0, 0], [1, 1, 1]] if right else [[0, 0, 1], [1, 1, 1]])
