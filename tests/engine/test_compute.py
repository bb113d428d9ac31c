"""What a run computed: passes by hand, operations against a count of every step, teachers included once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.flop_counter import FlopCounterMode

from selfdistill_cli.engine.compute import Compute, Operations, counting
from selfdistill_cli.engine.method import StepPlan
from selfdistill_cli.engine.passes import Passes
from selfdistill_cli.models.concatenated import concatenate
from selfdistill_cli.runs.costs import compute_by_part, total_compute
from tests.helpers.loops import make_loop
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import SIZE, make_examples, make_methods, make_model

EPOCHS, STEPS = 3, 9
CASES = [
    ("classification", "static_sd_late"),
    ("decoder", "static_sd_none"),
    ("classification", "ema"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (("classification", "dcs_by_epoch"), ("decoder", "dynsdpb"), ("encoder_decoder", "static_sd_token"))
    ),
]


def made(kind: str, name: str, examples: Any, model: Any) -> Any:
    """A method of `make_methods`, or a variant that changes what a step costs while it trains."""
    methods = make_methods(kind, examples, model)
    if name == "static_sd_late":
        late = methods["static_sd"]
        late.start_epoch = 1.5  # type: ignore[attr-defined]
        return late
    if name == "dcs_by_epoch":
        by_epoch = methods["dcs"]
        by_epoch.update = "epoch"  # type: ignore[attr-defined]
        return by_epoch
    return methods[name]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_operations_are_those_of_a_count_over_the_whole_run(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example is forwarded alone, so nothing is padded and both counts are of the same thing."""
    monkeypatch.setattr("selfdistill_cli.engine.loop.recorded", lambda *_: False)  # diagnostics are no part of a cost
    examples, model, runtime = make_examples(kind), make_model(kind), cpu_runtime(1)
    loop = make_loop(model, made(kind, name, examples, model), examples, runtime, tmp_path, epochs=EPOCHS)
    with counting(True) as everything:
        loop.run()
    parts = runtime.compute.parts
    counted = sum(passes.flops or 0 for passes in parts.values())
    assert counted == pytest.approx(everything.get_total_flops(), rel=0.02)
    previous = name.startswith(("static_sd", "dynsdpb")) and not name.endswith("_none")
    forwarded = 10 * (2 * STEPS - 1 if previous else STEPS)
    taught = forwarded if name == "ema" else 0  # by the average, which no gradient goes through
    assert (parts["training"].forward, parts["training"].backward) == (forwarded + taught, forwarded)
    rounds = EPOCHS if name == "dcs_by_epoch" else 0
    assert parts.get("predictions", Passes()).forward == rounds * SIZE


@pytest.mark.parametrize("kind", ["classification", "decoder"])
def test_operations_without_padding_are_those_of_a_count_over_the_whole_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last layer's work is for each example rather than each token, and attention's grows with length."""
    monkeypatch.setattr("selfdistill_cli.engine.loop.recorded", lambda *_: False)
    examples, model, runtime = make_examples(kind), make_model(kind), cpu_runtime()
    assert concatenate(model)
    method = made(kind, "static_sd_late", examples, model)
    loop = make_loop(model, method, examples, runtime, tmp_path, epochs=EPOCHS)
    with counting(True) as everything:
        loop.run()
    counted = sum(passes.flops or 0 for passes in runtime.compute.parts.values())
    assert counted == pytest.approx(everything.get_total_flops(), rel=0.02)


def test_the_first_step_of_each_kind_and_ever_fewer_after_it_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 1,000 steps 11 are counted, which costs no time that anybody would notice."""
    counted: list[bool] = []

    compute = Compute()
    layer = nn.Linear(3, 5)

    def work() -> Any:
        counted.append(_get_current_dispatch_mode() is not None)
        layer(torch.ones(2, 3))
        return SimpleNamespace(examples=1, tokens=2, padded_tokens=2, beside=Passes())

    for step in range(1000):
        compute.step(StepPlan([0], 0.0), begun=step > 500, work=work)
    powers = [1, 4, 16, 64, 256]
    assert [number for number, now in enumerate(counted) if now] == [0, *powers, *(500 + power for power in powers)]
    assert compute.parts["training"] == Passes(1000, 1000, 2000, 1000.0 * (2 * 2 * 3 * 5))
    restored = Compute()
    restored.load_state_dict(json.loads(json.dumps(compute.state_dict())))
    assert restored == compute


def test_a_diagnostic_within_a_step_is_not_counted() -> None:
    compute, layer = Compute(), nn.Linear(3, 5)

    def work() -> Any:
        layer(torch.ones(2, 3))
        with compute.apart():
            layer(torch.ones(200, 3))
        return SimpleNamespace(examples=1, tokens=2, padded_tokens=2, beside=Passes())

    for _ in range(3):
        compute.step(StepPlan([0], 0.0), begun=True, work=work)
    assert compute.parts["training"] == Passes(3, 3, 6, 3.0 * (2 * 2 * 3 * 5))


@pytest.mark.parametrize("kv_heads", [6, 2])
def test_fused_attention_counts_as_its_products_do(kv_heads: int) -> None:
    """Also where several heads of the queries share one of the keys, as in many decoders."""
    query = torch.randn(2, 6, 16, 8, requires_grad=True)
    key, value = (torch.randn(2, kv_heads, 16, 8, requires_grad=True) for _ in range(2))
    counted = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend), counting(True) as counter:
            out = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
            forward = counter.get_total_flops()
            out.sum().backward()
        counted[backend] = forward, counter.get_total_flops() - forward
    assert counted[SDPBackend.FLASH_ATTENTION][0] == counted[SDPBackend.MATH][0] == 2 * (2 * 2 * 6 * 16 * 16 * 8)
    # the fused one computes the scores a second time instead of keeping them
    assert counted[SDPBackend.FLASH_ATTENTION][1] == counted[SDPBackend.MATH][1] + 2 * 2 * 6 * 16 * 16 * 8


@pytest.mark.parametrize("inference", [False, True])
def test_operations_are_those_that_torch_counts(inference: bool) -> None:
    """Forward and backward of a model, and what inference mode leaves to be taken apart (matmul)."""
    examples, model = make_examples("classification"), make_model("classification")
    batch, counted = examples.collate(np.arange(5), 1), []
    for counter in (FlopCounterMode(display=False), Operations()):
        model.train()
        with counter, torch.inference_mode(inference), sdpa_kernel(SDPBackend.MATH):
            logits = examples.forward(model, batch, torch.device("cpu"))
            torch.matmul(torch.ones(2, 3, 4), torch.ones(4, 5))
            if not inference:
                logits.sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize("kind", ["flash", "efficient", "cudnn"])
def test_attention_of_a_card_counts_with_shared_heads(kind: str) -> None:
    """The operations of a card, on tensors that hold nothing: torch before 2.12 stops there."""
    query, key = torch.empty(2, 6, 16, 8, device="meta"), torch.empty(2, 2, 16, 8, device="meta")
    more = () if kind == "flash" else (None, True)
    with counting(True) as counter:
        getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_attention")(query, key, key, *more)
    assert counter.get_total_flops() == 2 * (2 * 2 * 6 * 16 * 16 * 8)


def test_counting_changes_no_prediction() -> None:
    examples, model = make_examples("classification"), make_model("classification")
    found = cpu_runtime(100).predict(model, examples)  # ten batches or so, of which the middle one is counted
    with torch.no_grad():
        one_by_one = [examples.forward(model, examples.collate([row], 1), torch.device("cpu")) for row in range(SIZE)]
    torch.testing.assert_close(found, torch.cat(one_by_one))


@pytest.mark.parametrize("budget", [100, 10**6])
def test_predictions_are_counted_without_padding(budget: int) -> None:
    examples, model, runtime = make_examples("classification"), make_model("classification"), cpu_runtime(budget)
    runtime.predict(model, examples)
    with runtime.compute.part("predictions"):
        runtime.predict(model, examples)
    with counting(True) as alone, torch.no_grad():
        for row in range(SIZE):
            examples.forward(model, examples.collate([row], 1), torch.device("cpu"))
    evaluation = runtime.compute.parts["evaluation"]
    assert runtime.compute.parts["predictions"] == evaluation
    assert evaluation.tokens == examples.lengths.sum()
    assert (evaluation.forward, evaluation.backward) == (SIZE, 0)
    assert evaluation.flops == pytest.approx(alone.get_total_flops(), rel=0.1)  # attention costs more in longer rows


def test_a_teacher_counts_with_its_own_teachers(tmp_path: Path) -> None:
    own = Compute({"training": Passes(120, 120, 900, 9e6), "evaluation": Passes(50, 0, 400, 1e6)})
    own.parts["teacher"] = Passes(40, 0, 300, 1e6)  # its predictions of the training set
    assert compute_by_part(own, None)["total"] == Passes(160, 120, 1200, 1e7)
    taught_itself = {"compute": {"total": {"forward": 200, "backward": 160, "tokens": 1500, "flops": 15_000_000}}}
    (tmp_path / "results.json").write_text(json.dumps(taught_itself))
    parts = compute_by_part(own, tmp_path / "model")
    assert parts["teacher"] == Passes(240, 160, 1800, 1.6e7)
    assert parts["total"] == Passes(360, 280, 2700, 2.5e7)
    assert parts["evaluation"] == own.parts["evaluation"]


def test_a_round_of_self_training_counts_the_rounds_before_and_what_they_drew(tmp_path: Path) -> None:
    folder = tmp_path / "rounds" / "key"
    folder.mkdir(parents=True)
    before = {"compute": {"total": {"forward": 100, "backward": 100, "tokens": 900, "flops": 9_000}}}
    (tmp_path / "results.json").write_text(json.dumps(before))
    drawn = {
        "drawn": 40,
        "generated_tokens": 200,
        "compute": {"forward": 40, "backward": 0, "tokens": 600, "flops": 700},
    }
    own = Compute({"training": Passes(140, 140, 1300, 13_000)})
    for about, rounds in ((drawn, Passes(140, 100, 1500, 9_700)), ({**drawn}, Passes(140, 100, 1100, None))):
        if rounds.flops is None:  # of an earlier version
            del about["compute"]
        (folder / "round.json").write_text(json.dumps(about))
        parts = compute_by_part(own, None, folder / "added.parquet")
        assert parts["earlier_rounds"] == rounds
        assert parts["total"] == own.parts["training"] + rounds


def test_a_run_of_an_earlier_version_has_no_operations() -> None:
    before = {"examples_forwarded": 120, "tokens": 900, "teacher": {"key": "k", "examples_forwarded": 80}}
    assert total_compute(before) == Passes(200, 200, 900, None)
    assert (Passes(1, 1, 1, 5.0) + total_compute(before)).as_dict() == {"forward": 201, "backward": 201, "tokens": 901}
    assert Passes.of({"forward": 1, "backward": 1, "tokens": 2}) == Passes(1, 1, 2, None)
