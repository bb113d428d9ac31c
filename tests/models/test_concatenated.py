"""Examples one behind the other: the outputs and gradients of padded rows, for every kind of encoder that can."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from selfdistill_cli.errors import UserError
from selfdistill_cli.models import concatenated
from selfdistill_cli.models.concatenated import concatenate, leave_out_padding, model_inputs
from selfdistill_cli.models.cpu.dropout import dropout
from selfdistill_cli.models.cpu.groups import Groups, grouped_attention
from selfdistill_cli.models.cpu.tuning import tune

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    **{"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    **{"max_position_embeddings": 40, "initializer_range": 0.3},
}
FAMILIES: dict[str, Callable[..., Any]] = {
    "bert": lambda **more: BertForSequenceClassification(BertConfig(**SIZES, **more)),
    "roberta": lambda **more: RobertaForSequenceClassification(RobertaConfig(**SIZES, **more)),
    "xlm_roberta": lambda **more: XLMRobertaForSequenceClassification(XLMRobertaConfig(**SIZES, **more)),
    "electra": lambda **more: ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=24, **more)),
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def batch_of(model: Any, lengths: tuple[int, ...] = (3, 17, 30, 8, 16, 1, 17)) -> dict[str, torch.Tensor]:
    """Rows of random tokens, filled up with the model's padding; two segments where the model knows them."""
    torch.manual_seed(1)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = torch.where(real, torch.randint(3, 50, real.shape), model.config.pad_token_id)
    batch = {"input_ids": tokens, "attention_mask": real.long()}
    if model.config.type_vocab_size > 1:
        batch["token_type_ids"] = torch.where(real, torch.arange(max(lengths)) % 3 // 2, 0)
    return batch


def outputs_and_gradients(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    logits = model(**model_inputs(model, batch, CPU)).logits
    (logits * torch.sin(torch.arange(logits.numel())).view(logits.shape)).square().sum().backward()
    return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("outputs", [3, 1], ids=["classification", "regression"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("tuned", "few_shapes"), [(True, False), (True, True), (False, False)])
def test_outputs_and_gradients_are_those_of_padded_rows(
    family: str, outputs: int, tuned: bool, few_shapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concatenated, "SHORT", 0)  # few shapes in attention as well
    torch.manual_seed(0)
    theirs = FAMILIES[family](num_labels=outputs, **NO_DROPOUT).train()
    ours = copy.deepcopy(theirs)
    if tuned:
        tune(ours)
    assert concatenate(ours, few_shapes)
    batch = batch_of(theirs)
    expected, found = (outputs_and_gradients(model, batch) for model in (theirs, ours))
    assert len(expected) == len(found) > 20
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(a.abs().max())))
    # Not for want of attention: another token in one example changes that one alone.
    batch["input_ids"][1, 5] += 1
    changed = ours(**model_inputs(ours, batch, CPU)).logits.detach()
    assert (changed - found[0]).abs().amax(-1).gt(1e-4).tolist() == [row == 1 for row in range(7)]


@pytest.mark.parametrize(("few_shapes", "tokens"), [(False, 17), (True, 32)])
def test_each_token_is_computed_once_and_the_last_layer_goes_on_with_first_tokens(
    few_shapes: bool, tokens: int
) -> None:
    model = FAMILIES["bert"](num_labels=2)
    assert concatenate(model, few_shapes)
    shapes: dict[str, torch.Size] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.register_forward_hook(lambda _m, _i, output, name=name: shapes.__setitem__(name, output.shape))
    model(**model_inputs(model, batch_of(model, (3, 9, 5)), CPU))
    assert {shape[1] for name, shape in shapes.items() if "layer.0" in name or "embeddings" in name} == {tokens}
    assert shapes["bert.encoder.layer.1.attention.self.key"] == (1, tokens, 32)
    assert shapes["bert.encoder.layer.1.intermediate.dense"] == (1, 3, 48)
    assert shapes["bert.pooler.dense"] == (3, 32)


LENGTHS = np.array([5, 1, 12, 5, 9, 40, 31, 33])


@pytest.mark.parametrize("few_shapes", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_grouped_attention_is_the_formula_for_each_example(p: float, first: bool, few_shapes: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(int(LENGTHS.sum()), 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    groups = Groups.by_length(LENGTHS, 2, few_shapes, first)
    torch.manual_seed(3)
    found = grouped_attention(q, k, v, groups, 0.5, p)
    torch.manual_seed(3)
    kept = dropout(torch.ones(groups.scores, dtype=torch.float64), p)
    expected = torch.zeros_like(q)
    example = torch.from_numpy(np.repeat(np.arange(len(LENGTHS)), LENGTHS))
    for group in groups.of:
        tokens, asking = (
            slots.view(-1, 2, places)[:, 0] // 2
            for slots, places in (
                (groups.slots[group.keys], group.width),
                (groups.queries[group.queries], group.asking),
            )
        )
        slots = torch.arange(group.keys.start, group.keys.stop).view(-1, 2, group.width)
        of_group = kept[group.scores].view(-1, 2, group.asking, group.width)
        for row in range(len(tokens)):
            real = groups.rows[tokens[row] * 2] == slots[row, 0]
            for place, token in enumerate(asking[row].tolist()):
                if not real[place]:
                    continue
                seen = real & (example[tokens[row]] == example[token])
                probabilities = (torch.einsum("hd,khd->hk", q[token], k[tokens[row, seen]]) * 0.5).softmax(-1)
                dropped = probabilities * of_group[row, :, place, seen]
                answer = torch.einsum("hk,khd->hd", dropped, v[tokens[row, seen]])
                expected = expected.index_put((torch.tensor(token),), answer)
    assert torch.allclose(found, expected)
    answered = expected.abs().sum((1, 2)).gt(0)
    assert p or answered.sum() == (len(LENGTHS) if first else LENGTHS.sum())
    weights = torch.cos(torch.arange(found.numel())).view(found.shape)
    ours, theirs = (torch.autograd.grad((each * weights).sum(), (q, k, v)) for each in (found, expected))
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("longest", "dtype"), [(64, torch.float32), (65, torch.bfloat16)])
def test_under_bf16_attention_of_short_examples_is_that_of_float32(
    longest: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES | {"max_position_embeddings": 70}, **NO_DROPOUT)).train()
    assert concatenate(model, few_shapes=True)
    lengths, seen = (3, longest, 17), []

    def spied(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Tensor:
        found = grouped_attention(q, k, v, *others)
        seen.append((q, k, v, found))
        return found

    monkeypatch.setattr(concatenated, "grouped_attention", spied)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(**model_inputs(model, batch_of(model, lengths), CPU)).logits
    logits.sum().backward()
    assert {tensor.dtype for call in seen for tensor in call} == {dtype}
    starts = np.cumsum(lengths) - lengths
    for start, length in zip(starts, lengths, strict=True):
        q, k, v, found = (x[start : start + length].transpose(0, 1).float() for x in seen[0])
        expected = nn.functional.scaled_dot_product_attention(q, k, v)
        tolerance = 1e-6 if dtype == torch.float32 else 2e-2
        assert torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


def test_short_examples_share_rows_and_others_those_of_their_length() -> None:
    shared = Groups.by_length(LENGTHS, 2)
    assert [(group.width, len(shared.slots[group.keys])) for group in shared.of] == [(32, 2 * 32 * 2), (40, 2 * 40 * 2)]
    alone = Groups.by_length(LENGTHS, 2, first=True)  # an example's first token attends to its own row
    assert [group.width for group in alone.of] == [5, 12, 31, 40]
    assert len(alone.queries) == len(LENGTHS) * 2


@pytest.mark.parametrize("seed", range(20))
def test_every_token_has_one_place_whatever_the_lengths(seed: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, draw.integers(2, 90), draw.integers(1, 60))
    for few_shapes in (False, True):
        groups = Groups.by_length(lengths, 3, few_shapes)
        assert torch.equal(groups.slots[groups.rows], torch.arange(lengths.sum() * 3))
        assert len(groups.rows.unique()) == len(groups.rows)
        empty = [] if groups.empty is None else groups.empty.tolist()
        assert sorted([*groups.rows.tolist(), *empty]) == list(range(len(groups.slots)))
        sharing = [len(groups.slots[group.keys]) // 3 for group in groups.of if group.width <= 32]
        assert sum(sharing) <= 2 * lengths[lengths <= 32].sum() + 32  # but for one, each row is at least half full


def test_dropout_has_the_same_distribution() -> None:
    """Over many draws, mean and spread of each logit are those of padded rows with torch's own dropout."""
    torch.manual_seed(0)
    theirs = FAMILIES["bert"](num_labels=3).train()
    ours = copy.deepcopy(theirs)
    tune(ours)
    assert concatenate(ours)
    one = batch_of(theirs, (4, 9, 6, 1))
    many = {name: tensor.repeat(600, 1) for name, tensor in one.items()}
    with torch.no_grad():
        draws = [m(**model_inputs(m, many, CPU)).logits.view(600, 4, 3) for m in (theirs, ours)]
    difference = (draws[0].mean(0) - draws[1].mean(0)).abs()
    error = (draws[0].var(0) / 600 + draws[1].var(0) / 600).sqrt()
    assert (difference < 5 * error).all()
    assert torch.allclose(draws[0].std(0), draws[1].std(0), rtol=0.2)


def test_gradient_checkpointing_computes_the_same_again() -> None:
    model = FAMILIES["electra"](num_labels=2).train()
    assert concatenate(model)
    batches, found = [batch_of(model), batch_of(model, (9, 4, 20, 3, 3, 12, 30))], []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.zero_grad()
        torch.manual_seed(4)
        # Both are forwarded before the backward pass, as for a method that needs the whole step.
        logits = [model(**model_inputs(model, batch, CPU)).logits for batch in batches]
        sum(each.square().sum() for each in logits).backward()
        found.append([*(each.detach() for each in logits), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_same_draws_give_the_same_bits() -> None:
    model = FAMILIES["roberta"](num_labels=2).train()
    tune(model)
    assert concatenate(model)
    found = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(4)
        found.append(outputs_and_gradients(model, batch_of(model)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


OTHERS: dict[str, Callable[[], Any]] = {
    "deberta": lambda: DebertaV2ForSequenceClassification(DebertaV2Config(**SIZES)),
    "albert": lambda: AlbertForSequenceClassification(AlbertConfig(**SIZES, embedding_size=16)),
    "multiple choice": lambda: BertForMultipleChoice(BertConfig(**SIZES)),
    "decoder": lambda: GPT2ForSequenceClassification(
        GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, pad_token_id=0)
    ),
    "positions of their own": lambda: BertForSequenceClassification(BertConfig(**SIZES, is_decoder=True)),
    "bf16 weights": lambda: BertForSequenceClassification(BertConfig(**SIZES)).bfloat16(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_cannot_is_left_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = OTHERS[name]()
    before = (
        model.config._attn_implementation,
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
    )
    assert not concatenate(model)
    after = (
        model.config._attn_implementation,
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
    )
    assert before == after
    assert "layout" not in model_inputs(model, {"input_ids": torch.ones(1, 2)}, CPU)
    with pytest.raises(UserError, match="padding=auto"):
        leave_out_padding(model, "none", CPU)
    leave_out_padding(model, "auto", CPU)


def test_a_card_is_given_padded_rows() -> None:
    model = FAMILIES["bert"](num_labels=2)
    with pytest.raises(UserError, match=r"only a processor .*padding=auto"):
        leave_out_padding(model, "none", torch.device("cuda"))
    leave_out_padding(model, "auto", torch.device("cuda"))
    assert "layout" not in model_inputs(model, batch_of(model), CPU)


def test_padding_stays_where_it_is_asked_for_and_padded_rows_go_on_as_before() -> None:
    torch.manual_seed(0)
    model = FAMILIES["bert"](num_labels=2).eval()
    batch = batch_of(model)
    leave_out_padding(model, "longest", CPU)
    assert model_inputs(model, batch, CPU).keys() == batch.keys()
    expected = model(**batch).logits
    leave_out_padding(model, "auto", CPU)
    assert model_inputs(model, batch, CPU)["input_ids"].shape == (1, 92)
    assert torch.equal(model(**batch).logits, expected)
