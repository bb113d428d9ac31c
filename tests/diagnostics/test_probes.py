"""Diagnostics of training: what they record, and that they change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from selfdistill_cli.diagnostics.gradients import GradientProbe, layer_norms, layer_of
from selfdistill_cli.engine.probes import RECORDED_STEPS, recording_interval
from selfdistill_cli.experiment import run
from tests.helpers.runs import composed, only_run
from tests.helpers.task_files import write


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("bert.embeddings.word_embeddings.weight", "embeddings"),
        ("bert.encoder.layer.11.attention.self.query.weight", "layer 11"),
        ("roberta.encoder.layer.0.output.dense.bias", "layer 0"),
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", "layer 0"),
        ("model.layers.3.self_attn.q_proj.weight", "layer 3"),
        ("base_model.model.model.layers.3.self_attn.q_proj.lora_A.default.weight", "layer 3"),
        ("model.embed_tokens.weight", "embeddings"),
        ("transformer.h.2.mlp.c_fc.weight", "layer 2"),
        ("transformer.wte.weight", "embeddings"),
        ("shared.weight", "embeddings"),
        ("encoder.block.1.layer.0.SelfAttention.q.weight", "encoder layer 1"),
        ("decoder.block.1.layer.2.DenseReluDense.wo.weight", "decoder layer 1"),
        ("model.encoder.layers.0.fc1.weight", "encoder layer 0"),
        ("model.decoder.layers.0.fc1.weight", "decoder layer 0"),
        ("bert.encoder.layer.1.output.dense.weight", "layer 1"),
        ("embed_out.weight", "head"),
        ("classifier.weight", "head"),
        ("lm_head.weight", "head"),
    ],
)
def test_the_layer_of_a_parameter(parameter: str, layer: str) -> None:
    assert layer_of(parameter) == layer


def test_norms_are_those_of_all_gradients_of_a_layer_together() -> None:
    network = nn.ModuleDict({"classifier": nn.Linear(2, 2), "embeddings": nn.Embedding(3, 2)})
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    network["layers"] = nn.ModuleList(layers)
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    layers[1].weight.grad = None
    layers[1].bias.grad = None
    found = layer_norms(network.named_parameters())
    assert list(found) == ["embeddings", "layer 0", "head"]
    first = layers[0]
    assert first.weight.grad is not None
    assert first.bias.grad is not None
    expected = torch.cat([first.weight.grad.flatten(), first.bias.grad.flatten()]).norm()
    assert found["layer 0"] == pytest.approx(float(expected))


@pytest.mark.parametrize("steps", [1, RECORDED_STEPS, RECORDED_STEPS + 1, 12_345])
def test_a_run_is_recorded_so_often_at_most(steps: int) -> None:
    every = recording_interval(steps)
    assert len(range(0, steps, every)) <= RECORDED_STEPS
    assert len(range(0, steps, every)) > min(steps, RECORDED_STEPS) / 2 - 1


def test_gradients_that_overflow_are_left_out() -> None:
    """In fp16 the scaler skips such a step; a record holds no number without a size."""
    embeddings, head = nn.Linear(2, 2), nn.Linear(2, 2)
    model = nn.ModuleDict({"embed": embeddings, "head": head})
    gradients = [torch.ones(2, 2), torch.ones(2), torch.ones(2, 2), torch.ones(2)]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    gradients[0][0, 0] = torch.inf
    nothing: Any = SimpleNamespace(scaler=None)
    probe = GradientProbe(10, nothing)
    assert probe.observe(1, model, nothing) == {"norm/head": pytest.approx(6**0.5)}
    gradients[2][0, 0] = torch.nan
    assert probe.observe(1, model, nothing) is None


def test_maps_of_few_questions_with_choices_are_those_of_the_questions(tmp_path: Path) -> None:
    rows: dict[str, Any] = {
        "text": [f"door number {n} is" for n in range(9)],
        "choices": [["red", "blue", "very green"]] * 9,
        "label": [0, 1, 2] * 3,
    }
    files = (f"task.path={write(tmp_path / 'rows.parquet', rows)}", "task.validation_examples=6")
    asked = ("task=custom", "task.kind=multiple_choice", "task.text=text", "task.choices=choices", "task.label=label")
    small = ("model=tiny_llama", "model.config.hidden_size=32", "method=vanilla", "tracking=none")
    steps = ("schedule.max_steps=22", "schedule.batch_size=3", "schedule.evaluate_every=22")
    cfg = composed(*asked, *files, *small, *steps, "runtime.diagnostics=maps", f"paths.outputs={tmp_path}/outputs")
    cfg.task.validation_path = cfg.task.path
    run(cfg)
    metrics = (only_run(tmp_path / "outputs") / "metrics.jsonl").read_text().splitlines()
    found = [row for row in map(json.loads, metrics) if "retrieval/chance" in str(row)]
    assert found
    (chance,) = {value for row in found for name, value in row.items() if name.endswith("retrieval/chance")}
    assert chance == pytest.approx(1 / 18)  # three rows of each of six questions
