"""ema: the average in closed form, its limits, whose weights are scored and kept, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.forwards import with_weights
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.engine.step import backward_step
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.methods import EMA, KD, Method, TrainingContext
from selfdistill_cli.models.output_layer import output_layer
from tests.helpers.given_logits import classification
from tests.helpers.loops import make_loop
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import make_examples, make_methods, make_model


def ema(context: TrainingContext | None = None, **changes: Any) -> EMA:
    settings: dict[str, Any] = {"tau": 2.0, "alpha": 1.0, "beta": 0.999, "evaluate": "student"}
    return EMA(context or classification(), **settings | changes)


def walk(method: EMA, layer: nn.Linear, weights: np.ndarray) -> list[np.ndarray]:
    """The average after each step, where the weights were these [steps + 1, k] one after the other."""
    averages = []
    for number, now in enumerate(weights):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(now)[None])
        if number == 0:
            method.before_training(layer)
        else:
            method.after_step(layer)
            averages.append(method.averaged.mean["weight"].double().numpy()[0].copy())
    return averages


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.999])
def test_the_average_is_a_weighted_sum_of_all_weights_so_far(beta: float) -> None:
    weights = np.random.default_rng(0).normal(size=(41, 3))
    averages = walk(ema(beta=beta), nn.Linear(3, 1, bias=False).double(), weights)
    for steps in (1, 2, 7, 40):
        betas = np.array([min(beta, (1 + t) / (10 + t)) for t in range(1, steps + 1)])
        # θ̄_n = Π β_t · θ_0 + Σ_k (1 − β_k) Π_{t > k} β_t · θ_k
        shares = [betas.prod(), *((1 - betas[k]) * betas[k + 1 :].prod() for k in range(steps))]
        assert averages[steps - 1] == pytest.approx(np.array(shares) @ weights[: steps + 1], rel=1e-10)
        assert sum(shares) == pytest.approx(1)


def test_equal_weights_are_their_own_average() -> None:
    averages = walk(ema(), nn.Linear(3, 1, bias=False).double(), np.ones((20, 3)))
    assert all(average == pytest.approx(np.ones(3), rel=1e-12) for average in averages)


def test_the_average_of_bfloat16_weights_is_kept_in_float32() -> None:
    method, weights = ema(), np.linspace(1, 3, 201)
    averages = walk(method, nn.Linear(3, 1, bias=False).bfloat16(), np.repeat(weights[:, None], 3, axis=1))
    expected = weights[0]
    for t, now in enumerate(torch.from_numpy(weights).bfloat16().double().tolist()[1:], start=1):
        beta = (1 + t) / (10 + t)
        expected = beta * expected + (1 - beta) * now
    assert averages[-1] == pytest.approx(np.full(3, expected), rel=1e-6)  # bfloat16 itself has three digits
    assert method.averaged.weights()["weight"].dtype == torch.bfloat16


def with_dropout(kind: str) -> Any:
    model = make_model(kind).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    return model


def gradient(model: Any, method: Method, examples: Any, rows: list[int]) -> Tensor:
    model.zero_grad()
    torch.manual_seed(5)
    backward_step(model, method, examples, method.plan(rows, 0.0), cpu_runtime(200))
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", ["classification", "regression", "decoder", "encoder_decoder"])
def test_without_memory_it_is_kd_from_the_model_of_one_step_ago_without_dropout(kind: str) -> None:
    examples, model = make_examples(kind), with_dropout(kind)
    context = make_methods(kind, examples, model)["vanilla"].context
    method = ema(context, beta=0.0)
    method.before_training(model)
    method.after_step(model)
    losses = context.losses
    keep = (lambda rows: losses.top_entries(rows, 100)) if isinstance(losses, AnswerLosses) else None  # all of V
    kept = cpu_runtime().predict(model, examples, *([keep] if keep else []))
    kd = KD(TrainingContext(losses, context.examples, context.labels, 10, kept), tau=2.0, alpha=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.sin(100 * parameter)
    ours, theirs = (gradient(model, each, examples, list(range(10))) for each in (method, kd))
    assert float((ours - 2 * theirs).norm() / ours.norm()) < 1e-4  # kd's α = ½ halves both of its parts


def test_other_weights_are_the_model_s_for_so_long_alone() -> None:
    model = make_model("decoder")
    others = {name: p.detach() * 2 for name, p in model.named_parameters()}
    before = [p.detach().clone() for p in model.parameters()]

    def tied(of: Any) -> tuple[Tensor, Tensor]:
        return of.get_input_embeddings().weight.clone(), output_layer(of).weights[0].clone()  # type: ignore[union-attr]

    entering, leaving = with_weights(model, others, tied)
    assert torch.equal(entering, 2 * before[0])
    assert torch.equal(leaving, entering)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


def test_with_lora_the_update_alone_is_averaged() -> None:
    model = get_peft_model(make_model("classification"), LoraConfig(task_type="SEQ_CLS", r=2))
    method = ema()
    method.before_training(model)
    assert method.averaged.mean.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in method.averaged.mean)


class Watching:
    """Scores that rise and fall, and the weights that were scored."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def scores(self, model: Any) -> Scores:
        self.seen.append(flat(model))
        return Scores({"accuracy": [0.1, 0.9, 0.5][len(self.seen) - 1]}, "accuracy", {})


def flat(model: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_average_is_scored_and_kept_if_asked_and_training_is_the_same(keep: str, tmp_path: Path) -> None:
    losses, kept, scored = [], [], []
    for evaluate in ("student", "average"):
        examples, model = make_examples("classification"), make_model("classification")
        context = make_methods("classification", examples, model)["vanilla"].context
        method = ema(context, beta=0.9, evaluate=evaluate)
        loop = make_loop(model, method, examples, cpu_runtime(), tmp_path / evaluate, epochs=3, keep=keep)
        loop.evaluator = watching = Watching()
        loop.run()
        losses.append([row["loss"] for row in loop.recorder.rows if row["kind"] == "train"])  # type: ignore[attr-defined]
        kept.append(flat(model))
        scored.append(watching.seen)
        average = torch.cat([mean.flatten() for mean in method.averaged.mean.values()])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 9
    for found, seen in zip(kept, scored, strict=True):
        assert torch.equal(found, seen[1 if keep == "best" else 2])
    assert torch.equal(scored[1][2], average)
    assert not torch.equal(scored[0][2], scored[1][2])


def test_a_checkpoint_holds_the_average(tmp_path: Path) -> None:
    model = make_model("classification")
    method, again = ema(), ema()
    method.before_training(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1
    method.after_step(model)
    Checkpoints(tmp_path).save(1, {"method": method.state_dict()})
    state = Checkpoints(tmp_path).load_newest()
    assert state is not None
    again.before_training(model)
    again.load_state_dict(state["method"])
    for each in (method, again):
        each.after_step(model)
    assert again.averaged.steps == method.averaged.steps == 2
    assert all(torch.equal(again.averaged.mean[name], mean) for name, mean in method.averaged.mean.items())
