"""The memory that a plan computes from settings: sizes as published, peaks as measured, and what changes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from selfdistill_cli.config.options import options_of
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import KINDS
from selfdistill_cli.planning.memory import GIB, Memory, architecture, gib, memory_in_words, memory_of
from tests.helpers.processes import run_command
from tests.helpers.runs import composed

PUBLISHED = {
    "bert_base": 110e6, "bert_large": 335e6, "albert_base": 11.8e6, "deberta_v3_base": 184e6, "electra_base": 110e6,
    "roberta_large": 355e6, "xlnet_base": 117e6, "minilm": 22.7e6, "gpt2": 124e6, "t5_small": 60.5e6,
    "t5_base": 223e6, "flan_t5_small": 60.5e6, "llama2_7b": 6.74e9, "llama3_1b": 1.24e9, "llama3_3b": 3.21e9,
    "llama3_8b": 8.03e9, "qwen2_5_0_5b": 0.49e9, "qwen2_5_1_5b": 1.54e9, "smollm2_135m": 135e6, "smollm2_360m": 362e6,
}  # fmt: skip
"""Parameters, as model cards and papers have them; of Flan-T5 without an output layer of its own: transformers ties it."""


def run(*words: str, model: str = "llama3_1b", task: str = "gsm8k") -> DictConfig:
    return composed("method=vanilla", f"model={model}", f"task={task}", *words)


@pytest.mark.parametrize("model", options_of("model"))
def test_every_model_of_conf_has_the_size_that_is_published(model: str) -> None:
    config = architecture(composed(f"model={model}").model)
    if model not in PUBLISHED:
        return
    writes = model.startswith(("gpt2", "t5", "flan", "llama", "qwen", "smollm"))
    with torch.device("meta"):
        made: Any = KINDS["generation" if writes else "classification"].model_class(config).from_config(config)
    assert made.num_parameters() == pytest.approx(PUBLISHED[model], rel=0.012)


BERT = ("model=tiny_bert", "model.config.hidden_size=320", "model.config.intermediate_size=1280", "task.max_length=26")
LLAMA = (
    *("model=tiny_llama", "model.config.hidden_size=256", "model.config.intermediate_size=1024"),
    *("task=synth_arithmetic", "task.max_length=88", "task.decoding.max_new_tokens=1"),
)
WIDE = (
    *("tracking=none", "runtime.precision=fp32", "runtime.token_budget=1664", "schedule.batch_size=160"),
    *("schedule.max_steps=1", "task.generator.train_examples=160", "task.generator.validation_examples=4"),
    *("model.dropout=0", "model.config.num_hidden_layers=6"),
)


@pytest.mark.slow
@pytest.mark.parametrize("model", [BERT, LLAMA], ids=["bert", "llama"])
def test_it_is_what_a_run_takes(model: tuple[str, ...], environment: dict[str, str], tmp_path: Path) -> None:
    words = ("method=ema", *model, *WIDE)
    if sys.platform != "linux":
        pytest.skip("the peak of a process is told by Linux")
    ended = run_command(tmp_path, environment, *words, module="tests.helpers.peak_memory")
    assert ended.code == 0, ended.err
    expected = memory_of(composed(*words)).total
    found = float(ended.out.splitlines()[-1])
    assert 0.6 < found / expected < 2, (found, expected)  # libraries that a run imports are a hundred megabytes of it


def test_it_follows_the_settings() -> None:
    plain = memory_of(run())
    parameters = plain.weights / 4
    assert (plain.gradients, plain.optimizer) == (plain.weights, 2 * plain.weights)
    assert memory_of(run("schedule.optimizer=sgd")).optimizer == plain.weights
    assert memory_of(run("schedule.optimizer=adafactor")).optimizer < plain.weights / 100
    assert memory_of(run("model.dtype=bfloat16")).weights == plain.weights / 2
    assert memory_of(composed("method=ema", "model=llama3_1b", "task=gsm8k")).method == 4 * parameters
    assert plain.method == 0
    assert memory_of(run("runtime.token_budget=1024")).activations == pytest.approx(plain.activations / 4, rel=0.02)
    assert memory_of(run("runtime.gradient_checkpointing=true")).activations < plain.activations / 5
    adapted = memory_of(run("model.lora.rank=8", "model.lora.target_modules=[q_proj]"))
    assert adapted.gradients == 4 * 16 * 8 * (2048 + 2048)  # layers, A and B
    assert adapted.weights == plain.weights + adapted.gradients
    lora = ("model.lora.rank=8", "model.lora.target_modules=[q_proj]", "model.dtype=bfloat16")
    body = 16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192)  # linear layers without embeddings
    for how, width in (("nf4", 4.127 / 8), ("int8", 1.0)):
        rounded = memory_of(run(*lora, f"model.quantization={how}"))
        whole = 2 * (parameters - body) + adapted.gradients
        assert rounded.weights == pytest.approx(whole + width * body, rel=1e-4)


def test_parts_are_shared_out_but_for_what_is_gathered() -> None:
    plain = memory_of(run())
    output = 4 * 128256 * 2048
    largest = 4 * 2048 * 8192
    four = memory_of(run("runtime.shard=full"), 4)
    assert four.weights == pytest.approx(plain.weights / 4 + output + largest)
    assert four.gradients == four.weights
    assert four.optimizer == plain.optimizer / 4
    assert four.activations == plain.activations


def test_a_step_that_forwards_more_examples_holds_more_as_far_as_the_budget_lets_it() -> None:
    words = ("task.max_length=64", "schedule.batch_size=4")
    small = {method: run(*words, model="bert_base", task="sst2") for method in ("vanilla", "static_sd", "rdrop")}
    for method, cfg in small.items():
        cfg.method = composed(f"method={method}").method
    once, *twice = (memory_of(cfg).activations for cfg in small.values())
    assert twice == [pytest.approx(2 * once, rel=0.01)] * 2
    for cfg in small.values():
        cfg.runtime.token_budget = 256
    assert len({memory_of(cfg).activations for cfg in small.values()}) == 1


def test_lora_that_cannot_be_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = memory_in_words([run("model.lora.rank=8", "model.lora.target_modules=[q_porj]")])
    assert line.startswith("memory: not computed, since model.lora.target_modules=['q_porj']: ")
    monkeypatch.setitem(sys.modules, "peft", None)
    (line,) = memory_in_words([run("model.lora.rank=8")])
    assert line.startswith("memory: not computed, since model.lora needs peft: pip install")


def test_it_is_said_in_a_line_or_why_not() -> None:
    (line,) = memory_in_words([run(), run(model="gpt2")])
    assert line.startswith("memory: about ")
    assert "(meta-llama/Llama-3.2-1B, the largest), computed from the settings: weights 4.60, gradients 4.60" in line
    several = memory_in_words([run("runtime.shard=full")])
    assert "on each of 2" in several[1]
    unknown = run()
    unknown.model.name = "someone/unheard-of"
    with pytest.raises(UserError, match="no configuration of someone/unheard-of is here"):
        architecture(unknown.model)
    assert memory_in_words([unknown])[0].startswith("memory: not computed, since no configuration")
    assert memory_in_words([]) == []
    assert [gib(value * GIB) for value in (0.5, 13.37, 166.2)] == ["0.50", "13.4", "166"]
    assert Memory(1, 2, 3, 4, 5, 6).total == 21
