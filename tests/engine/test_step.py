"""One step on a real (tiny) transformer: cutting it changes nothing, padding changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from selfdistill_cli.encoding.answers import AnswerExamples, Flat, Form
from selfdistill_cli.encoding.labelled import Examples, Padding
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.predictions import TokenRows
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.labelled import ClassificationLosses, RegressionLosses
from selfdistill_cli.methods import DCS, KD, DynSDPB, Method, StaticSD, TrainingContext, Vanilla
from selfdistill_cli.models.output_layer import output_layer
from tests.helpers.runtimes import cpu_runtime

SIZE = 30
KINDS = ["classification", "regression", "decoder", "encoder_decoder"]


def is_language(kind: str) -> bool:
    return kind in ("decoder", "encoder_decoder")


def make_examples(kind: str) -> Any:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 40, SIZE)
    tokens = rng.integers(5, 100, lengths.sum()).astype(np.int32)
    if is_language(kind):
        answer_lengths = rng.integers(1, 12, SIZE)
        answers = rng.integers(5, 100, answer_lengths.sum()).astype(np.int32)
        form = Form(0, decoder_start=None if kind == "decoder" else 0)
        return AnswerExamples(
            Flat(tokens, offsets_of(lengths)), Flat(answers, offsets_of(answer_lengths)), form, truncated=0
        )
    labels = rng.uniform(0, 5, SIZE).astype(np.float32) if kind == "regression" else rng.integers(0, 3, SIZE)
    segments = np.zeros(len(tokens), np.int8)
    return Examples(tokens, segments, offsets_of(lengths), labels, Padding("right", 0, 0), truncated=0)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def make_model(kind: str) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "decoder":
        config = LlamaConfig(**sizes, intermediate_size=64, pad_token_id=0, tie_word_embeddings=True)
        return LlamaForCausalLM(config)
    if kind == "encoder_decoder":
        t5 = T5Config(
            vocab_size=100,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
        return T5ForConditionalGeneration(t5)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    outputs = 1 if kind == "regression" else 3
    return BertForSequenceClassification(BertConfig(**sizes, **none, intermediate_size=64, num_labels=outputs))


def make_methods(kind: str, examples: Any, model: Any) -> dict[str, Method]:
    torch.manual_seed(1)
    losses: Any = RegressionLosses(5.0) if kind == "regression" else ClassificationLosses()
    teacher: Any = torch.randn(SIZE) if kind == "regression" else torch.randn(SIZE, 3)
    if is_language(kind):
        losses = AnswerLosses(lambda: output_layer(model))
        lengths = examples.answers.lengths
        log_p, entries = torch.randn(int(lengths.sum()), 100).log_softmax(-1).topk(10)
        teacher = TokenRows(torch.from_numpy(lengths), {"log_p": log_p, "entries": entries.int()})
    context = TrainingContext.of(losses, examples, 10, teacher)
    static: dict[str, Any] = {"tau": 3.0, "alpha": 1.0, "overlap": "append", "match": "vmm", "start_epoch": 0.0}
    rules = {"tau_rule": "uncertainty", "alpha_rule": "discrimination", "discrimination": "gold"}
    own = {"signal": "previous", "granularity": "example"}
    methods: dict[str, Method] = {
        "vanilla": Vanilla(context),
        "static_sd": StaticSD(context, **static),
        "dynsdpb": DynSDPB(context, **static, **rules, **own),
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
    if is_language(kind):
        token, apart = static | {"match": "token"}, static | {"overlap": "none"}
        methods |= {
            "static_sd_token": StaticSD(context, **token),
            "dynsdpb_token_batch": DynSDPB(context, **token, **rules, signal="previous", granularity="batch"),
            "static_sd_none": StaticSD(context, **apart),
            "dynsdpb_none": DynSDPB(context, **apart, **rules, **own),
            "dynsdpb_none_current": DynSDPB(context, **apart, **rules, signal="current", granularity="batch"),
        }
    return methods


CASES = [(kind, name) for kind in KINDS for name in make_methods(kind, make_examples(kind), None)]


def gradients_of_second_step(kind: str, name: str, batching: Batching) -> tuple[torch.Tensor, float]:
    """All gradients of a method's second step, after an update of the weights, flattened, and its loss."""
    examples, model, runtime = make_examples(kind), make_model(kind), cpu_runtime(batching)
    method = make_methods(kind, examples, model)[name]
    for fresh in (list(range(10)), list(range(10, 20))):
        model.zero_grad()
        plan = method.plan(fresh, 1.0)
        result = backward_step(model, method, examples, plan, runtime)
        method.after_backward(plan, result.logits)
        flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.sin(100 * parameter)  # any update; the teacher must not follow it
    return flat, result.loss


def gradients_of_single_example() -> torch.Tensor:
    """All gradients of a step of one example, flattened."""
    examples, model = make_examples("classification"), make_model("classification")
    method = make_methods("classification", examples, model)["vanilla"]
    backward_step(model, method, examples, method.plan([3], 0.0), cpu_runtime(4096))
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


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
    examples = Examples(flat, None, np.array([0, 3, 4, 6]), np.zeros(3, np.int64), Padding(side, 9, 0), truncated=0)
    inputs = examples.collate(np.array([1, 0]))
    right = side == "right"
    assert inputs["input_ids"].tolist() == ([[21, 9, 9], [11, 12, 13]] if right else [[9, 9, 21], [11, 12, 13]])
    assert inputs["attention_mask"].tolist() == ([[1, 0, 0], [1, 1, 1]] if right else [[0, 0, 1], [1, 1, 1]])
