"""Weights, gradients and moments in parts, two processes: the same run as with whole ones, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.helpers.every_method import given_teacher, methods_for, refusal, run_of, short_teacher
from tests.helpers.processes import Sdrun, killed_together, start_together
from tests.helpers.runs import SMALL, assert_same, only_run, results, rows, without_times

TINY = (
    *(*SMALL, "task.generator.train_examples=16", "task.generator.validation_examples=7", "schedule.weight_decay=0.1"),
    "model.config.num_hidden_layers=1",
)
BERT = (*TINY, "task=synth_entailment")
LLAMA = (*TINY, "model=tiny_llama", "task=synth_arithmetic", "task.decoding.max_new_tokens=2")


def commands(base: tuple[str, ...], method: str, outputs: Path) -> dict[str, list[str]]:
    """The words of a run as a whole and in parts, by `runtime.shard`. Without dropout, if the method can do without:
    micro-batches that are forwarded for nothing draw as well."""
    plain = ["method=vanilla", *base, "model.dropout=0"]
    teacher = given_teacher(method, run_of(outputs / "none", *plain))
    words = [f"method={method}", *base, *short_teacher(method), *teacher]
    words.append("model.dropout=0" if refusal(*words, "model.dropout=0") is None else "model.dropout=0.1")
    return {shard: [*words, f"runtime.shard={shard}", f"paths.outputs={outputs / shard}"] for shard in ("none", "full")}


@pytest.mark.slow
def test_runs_in_parts_end_as_whole_ones(environment: dict[str, str], tmp_path: Path) -> None:
    pairs = [
        commands(base, method, tmp_path)
        for base in (BERT, LLAMA)
        for method in ["vanilla", *methods_for(*base)]  # it is a teacher of others
        if "does not go with runtime.shard" not in (refusal(f"method={method}", *base, "runtime.shard=full") or "")
    ]
    pairs.append(commands((*BERT, "schedule.optimizer=sgd"), "vanilla", tmp_path / "sgd"))
    pairs.append(commands((*LLAMA, "model.lora.rank=2", "runtime.precision=bf16"), "dynsdpb", tmp_path / "lora"))
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([words for pair in pairs for words in pair.values()]))
    both = start_together(tmp_path, environment, str(file), module="tests.helpers.runs_of_two")
    ended = [process.end() for process in both]
    assert [process.code for process in ended] == [0, 0], ended[0].err[-3000:]
    for pair in pairs:
        whole, in_parts = (run_of(Path(words[-1].partition("=")[2]), *words[:-1]) for words in pair.values())
        weights, found = (load_file(run / "model/model.safetensors") for run in (whole, in_parts))
        assert weights.keys() == found.keys()
        for name in weights:
            assert (found[name] - weights[name]).abs().max() < 2e-5, (in_parts, name)
        for first, second in zip(rows(whole), rows(in_parts), strict=True):
            assert first.pop("kind") == second.pop("kind")
            assert without_times(second) == pytest.approx(without_times(first), rel=1e-3, abs=1e-4), in_parts
        assert results(whole)["trained_parameters"] == results(in_parts)["trained_parameters"]
        read = AutoModelForCausalLM if "model=tiny_llama" in pair["full"] else AutoModelForSequenceClassification
        read.from_pretrained(in_parts / "model")


@pytest.mark.slow
def test_a_killed_run_in_parts_goes_on_and_not_as_a_whole(environment: dict[str, str], tmp_path: Path) -> None:
    words = ("method=ema", *LLAMA, "schedule.epochs=4", "runtime.shard=full", "runtime.checkpoint_every=2 steps")
    undisturbed, outputs = killed_together(tmp_path, environment, 60, *words)
    killed = only_run(outputs)
    assert list(killed.glob("checkpoints/step-*"))
    files = {file.suffix for file in killed.glob("checkpoints/step-*/*")}
    assert files == {".safetensors", ".json"}  # no pickle
    for process in start_together(tmp_path, environment, *words, "runtime.shard=none"):
        assert "begun with runtime.shard=full" in process.end().err
    assert [process.end().code for process in start_together(tmp_path, environment, *words)] == [0, 0]
    assert_same(only_run(undisturbed), killed)


def test_one_process_says_that_it_keeps_the_whole_model(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun(*SMALL, "runtime.shard=full", "schedule.max_steps=1")
    assert ended.code == 0
    assert ended.err.count("there is one process, which keeps the whole model") == 1


def test_what_does_not_go_with_parts_is_refused(tmp_path: Path) -> None:
    for words, instead in {
        "schedule.optimizer=adafactor": "schedule.optimizer=adamw",
        "runtime.precision=fp16": "runtime.precision=bf16",
        "runtime.compile=true": "Leave one of them out",
    }.items():
        said = refusal(*SMALL, "runtime.shard=full", words)
        assert said is not None
        assert words in said
        assert instead in said
