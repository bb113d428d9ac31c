"""rdrop: the written loss, equal copies are vanilla, and models without dropout are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy import special

from selfdistill_cli.engine.forwards import draws_at_random
from selfdistill_cli.methods import RDrop, Vanilla
from tests.helpers import labelled_reference as reference
from tests.helpers.given_logits import BATCH, LABELS, TARGETS, classification, loss_of, random_logits, regression, total
from tests.helpers.steps import make_examples, make_model

TWICE = np.repeat(BATCH, 2)


def test_the_step_s_loss_is_what_is_written() -> None:
    method = RDrop(classification(), alpha=3.0)
    plan = method.plan(BATCH, 0.0)
    assert plan.examples == TWICE.tolist()
    z = random_logits(12, seed=4)
    p, q = (special.softmax(z[copy::2].numpy().astype(float), axis=1) for copy in (0, 1))
    divergence = (special.rel_entr(p, q) + special.rel_entr(q, p)).sum(1) / 2
    expected = reference.ce(z.numpy().astype(float), LABELS[TWICE]).mean() + 3.0 * divergence.mean()
    assert total(loss_of(method, plan, z)) == pytest.approx(expected, rel=1e-6)
    cut = loss_of(method, plan, z, [range(4, 8), range(4), range(8, 12)])
    assert total(cut) == pytest.approx(expected, rel=1e-6)


def test_regression_is_the_square_of_the_difference() -> None:
    method, z = RDrop(regression(), alpha=2.0), random_logits(12, seed=4, regression=True)
    of_copies = z.numpy().astype(float).reshape(6, 2)
    errors = (of_copies - TARGETS[BATCH][:, None]) ** 2
    expected = errors.mean() + 2.0 * ((of_copies[:, 0] - of_copies[:, 1]) ** 2).mean()
    assert total(loss_of(method, method.plan(BATCH, 0.0), z)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("context", [classification, regression])
def test_equal_copies_are_vanilla(context: object) -> None:
    made = context()  # type: ignore[operator]
    logits = random_logits(6, 1, regression=context is regression).requires_grad_()
    rdrop, vanilla = RDrop(made, alpha=5.0), Vanilla(made)
    twice = loss_of(rdrop, rdrop.plan(BATCH, 0.0), logits.repeat_interleave(2, 0))[0].total.sum()
    once = loss_of(vanilla, vanilla.plan(BATCH, 0.0), logits)[0].total.sum()
    assert twice.item() == pytest.approx(once.item(), rel=1e-6)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (twice, once)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("kind", ["classification", "decoder", "encoder_decoder"])
def test_a_model_without_dropout_draws_nothing(kind: str) -> None:
    model, examples, before = make_model(kind), make_examples(kind), torch.get_rng_state()
    assert not draws_at_random(model, examples)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
        if hasattr(module, "attention_dropout"):  # LLaMA's, which is no module
            module.attention_dropout = 0.1
    assert draws_at_random(model, examples)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dropped", [0.0, 0.05])
def test_a_fresh_lora_update_drops_although_it_adds_nothing_yet(dropped: float) -> None:
    model = get_peft_model(make_model("decoder"), LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=dropped))
    assert draws_at_random(model, make_examples("decoder")) == (dropped > 0)
