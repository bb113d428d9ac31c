"""Examples one behind the other on a CUDA card: the outputs and gradients of padded rows on a processor, the same bits twice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from selfdistill_cli.models.concatenated import concatenate, model_inputs
from tests.gpu.card import ON, command, continued, in_precision, train
from tests.helpers.runs import assert_same, results
from tests.models.test_concatenated import FAMILIES, NO_DROPOUT, batch_of


def outputs_and_gradients(model: Any, batch: dict[str, torch.Tensor], device: str) -> list[torch.Tensor]:
    logits = model(**model_inputs(model, batch, torch.device(device))).logits.float()
    weights = torch.sin(torch.arange(logits.numel(), device=device)).view(logits.shape)
    (logits * weights).square().sum().backward()
    return [logits.detach().cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)]


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_are_those_of_padded_rows_on_a_processor(family: str) -> None:
    torch.manual_seed(0)
    theirs = FAMILIES[family](num_labels=3, **NO_DROPOUT).train()
    ours = copy.deepcopy(theirs)
    assert concatenate(ours)
    batch = batch_of(theirs)
    expected, found = outputs_and_gradients(theirs, batch, "cpu"), outputs_and_gradients(ours.to(ON), batch, ON)
    assert len(expected) == len(found) > 20
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(a.abs().max())))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_without_padding_the_same_command_gives_the_same_bits_also_after_a_stop(precision: str, tmp_path: Path) -> None:
    words = command("dynsdpb", "synth_entailment", "runtime.padding=none", in_precision(precision))
    undisturbed = train(tmp_path / "undisturbed", words)
    assert results(undisturbed)["padding"] == "none"
    assert_same(undisturbed, continued(tmp_path / "stopped", words))
