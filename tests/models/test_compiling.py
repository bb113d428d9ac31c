"""torch.compile of a model's body: the same gradients, names and files; in training alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.models.compiling import compile_body
from tests.helpers.processes import run_command, user_environment
from tests.helpers.runs import SMALL, composed, only_run, rows
from tests.helpers.runtimes import cpu_runtime
from tests.helpers.steps import KINDS, make_examples, make_methods, make_model, prepare, second_step

EAGER = partial(torch.compile, backend="eager")
"""Traces and guards as any other, without a compiler."""


@pytest.fixture(autouse=True)
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "slow" not in request.keywords:
        monkeypatch.setattr(torch, "compile", EAGER)
    torch._dynamo.reset()


def compiled_method(kind: str, name: str, examples: Any, model: Any) -> Any:
    compile_body(model, deterministic=False)
    return make_methods(kind, examples, model)[name]


@pytest.mark.parametrize(("kind", "name"), [("classification", "ema"), ("decoder", "dynsdpb")])
def test_gradients_are_those_of_the_plain_model(kind: str, name: str) -> None:
    """ema as well, whose other weights are put in place of the model's own for a forward pass."""
    batching = cpu_runtime(200).batching
    flat, loss = second_step(kind, lambda examples, model: make_methods(kind, examples, model)[name], batching)
    found, of_compiled = second_step(kind, partial(compiled_method, kind, name), batching)
    assert of_compiled == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(found, flat, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_training_alone_runs_what_was_compiled_and_names_stay(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def spying(plain: Any) -> Any:
        def called(*inputs: Any, **named: Any) -> Any:
            calls.append("compiled")
            return plain(*inputs, **named)

        return called

    monkeypatch.setattr(torch, "compile", spying)
    examples, model = make_examples(kind), make_model(kind)
    names = list(model.state_dict())
    prepare(make_methods(kind, examples, model)["vanilla"], model)
    compile_body(model, deterministic=False)
    batch = examples.collate(torch.arange(2).numpy(), 1)
    examples.forward(model.eval(), batch, torch.device("cpu"))
    assert calls == []
    examples.forward(model.train(), batch, torch.device("cpu"))
    assert len(calls) == (2 if kind == "encoder_decoder" else 1)
    assert list(model.state_dict()) == names


def test_batches_without_padding_are_not_compiled() -> None:
    with pytest.raises(UserError, match=r"runtime\.padding=none: every batch .* compiled anew"):
        check(composed("runtime.compile=true", "runtime.padding=none"))


@pytest.mark.slow
def test_a_compiled_run_learns_what_a_plain_one_does_and_is_continued_compiled(tmp_path: Path) -> None:
    """With the compiler itself. Without dropout, which compiled kernels draw otherwise."""
    environment = user_environment(tmp_path)
    words = [*SMALL, "method=static_sd", "task=synth_entailment", "model.dropout=0", "runtime.device=cpu"]
    words += ["runtime.checkpoint_every=3 steps", "schedule.max_steps=6"]
    compiled = [*words, "runtime.compile=true"]
    plain = run_command(tmp_path, environment, *words, f"paths.outputs={tmp_path / 'plain'}")
    killed = run_command(tmp_path, environment | {"SDRUN_FAULT_AT": "25"}, *compiled)
    other = run_command(tmp_path, environment, *words)
    ended = run_command(tmp_path, environment, *compiled)
    assert (plain.code, killed.code, other.code, ended.code) == (0, -9, 1, 0), (plain.err, other.err, ended.err)
    assert "begun with runtime.compile=true" in other.err
    one, same = (rows(only_run(folder), "train") for folder in (tmp_path / "plain", tmp_path / "outputs"))
    for row, of_compiled in zip(one, same, strict=True):
        assert of_compiled["loss"] == pytest.approx(row["loss"], rel=1e-3)
