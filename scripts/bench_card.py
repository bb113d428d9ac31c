"""What a training step costs on a CUDA card: methods, precisions, determinism, compilation; an encoder and a decoder.

python scripts/bench_card.py                # at most 90 seconds, the rest is named and left out; prints Markdown
python scripts/bench_card.py --tiny         # two layers: whether it works, on a processor too

Random weights of the sizes of BERT-base and SmolLM2-135M, batches of 32 random texts of 8 to 63 tokens (of the decoder 16,
of 40 to 100). `device`: median over the steps after the warm-up of what the card was busy for, by events in its own
queue. `wall`: mean time from step to step on the clock, figures fetched. `plain loop`: the same model and batches without
sdrun. Everything in one process, with the workspace setting that deterministic products need.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import statistics
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import hydra
import measured
import numpy as np
import torch

from selfdistill_cli import experiment
from selfdistill_cli.config import schema
from selfdistill_cli.encoding.answers import AnswerExamples, Form
from selfdistill_cli.encoding.labelled import LabelledExamples, Padding
from selfdistill_cli.encoding.room import Flat
from selfdistill_cli.engine.checkpoint import Checkpoints
from selfdistill_cli.engine.loop import TrainingLoop
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.engine.runtime import make_runtime
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.losses.labelled import ClassificationLosses
from selfdistill_cli.methods import TrainingContext
from selfdistill_cli.models.compiling import compile_body
from selfdistill_cli.models.output_layer import output_layer
from selfdistill_cli.tracking.recorder import SilentRecorder

SIZE, WARM_UP = 640, 16
"""Examples; steps that are not counted."""
CARD = torch.cuda.is_available()


class Case(NamedTuple):
    """One row of the table."""

    model: str
    method: str
    precision: str = "bf16"
    deterministic: bool = True
    compiled: bool = False


class Rows(SilentRecorder):
    """Rows of steps, and when they came."""

    def __init__(self) -> None:
        self.steps: list[tuple[dict[str, Any], float]] = []

    def row(self, values: dict[str, Any]) -> None:
        if values["kind"] == "train":
            self.steps.append((values, time.perf_counter()))


class NoScores:
    """Evaluates nothing."""

    def scores(self, model: Any) -> Scores:
        return Scores({"accuracy": 0.0}, "accuracy", {})


@lru_cache(maxsize=2)
def made_model(kind: str, tiny: bool) -> Any:
    """Random weights of this size, on the CPU."""
    from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if kind == "encoder":
        small = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
        return BertForSequenceClassification(BertConfig(num_labels=2, **(small if tiny else {})))
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    heads = {"num_key_value_heads": 2 if tiny else 3, "vocab_size": 500 if tiny else 49152}
    return LlamaForCausalLM(
        LlamaConfig(**(small if tiny else sizes), **heads, pad_token_id=0, tie_word_embeddings=True)
    )


@lru_cache(maxsize=2)
def made_examples(kind: str) -> Any:
    """`SIZE` random texts."""
    draw = np.random.default_rng(0)

    def texts(shortest: int, longest: int) -> Flat:
        lengths = draw.integers(shortest, longest, SIZE)
        tokens = draw.integers(5, 400, lengths.sum()).astype(np.int32)
        return Flat(tokens, np.concatenate([[0], np.cumsum(lengths)]))

    if kind == "decoder":
        return AnswerExamples(texts(20, 50), texts(20, 50), Form(0, None), truncated=0)
    whole = texts(8, 64)
    labels, segments = draw.integers(0, 2, SIZE), np.zeros(len(whole.tokens), np.int8)
    return LabelledExamples(whole.tokens, segments, whole.offsets, labels, Padding("right", 0, 0), truncated=0)


def configuration(case: Case, steps: int) -> Any:
    """The settings of this case's run."""
    schema.register_schemas()
    values = [
        *(f"method={case.method}", f"runtime.precision={case.precision}", "runtime.checkpoint_every='9999 steps'"),
        *(f"runtime.deterministic={case.deterministic}", f"runtime.compile={case.compiled}"),
        *(f"schedule.max_steps={steps}", f"schedule.batch_size={16 if case.model == 'decoder' else 32}"),
        *("runtime.token_budget=16384", "schedule.keep=last", "schedule.evaluate_every=9999", "schedule.lr=1e-5"),
        *("tracking=none", "task=synth_arithmetic" if case.model == "decoder" else "task=synth_entailment"),
    ]
    with hydra.initialize_config_dir(str(schema.CONF_DIR), version_base="1.3"):
        return hydra.compose("config", overrides=values)


def measure(case: Case, steps: int, tiny: bool) -> tuple[float, float, float]:
    """Milliseconds a step of device and of wall time, and the peak of allocated memory in MiB."""
    cfg, examples = configuration(case, steps), made_examples(case.model)
    model = copy.deepcopy(made_model(case.model, tiny))
    runtime = make_runtime(cfg.runtime, "float32")
    losses: Any = AnswerLosses(lambda: output_layer(model)) if case.model == "decoder" else ClassificationLosses()
    teacher = torch.randn(SIZE, 2) if case.model == "encoder" else None
    context = TrainingContext.of(losses, examples, cfg.schedule.batch_size, teacher, runtime.device)
    if case.compiled:
        compile_body(model, case.deterministic)
    if CARD:
        torch.cuda.reset_peak_memory_stats()
    recorder = Rows()
    with tempfile.TemporaryDirectory() as folder:
        TrainingLoop(
            model=model,
            method=experiment.make_method(cfg, context),
            examples=examples,
            evaluator=NoScores(),
            schedule=cfg.schedule,
            seed=0,
            runtime=runtime,
            recorder=recorder,
            checkpoints=Checkpoints(Path(folder)),
            make_probes=lambda _: [],
        ).run()
    return *_times(recorder.steps), torch.cuda.max_memory_allocated() / 2**20 if CARD else 0.0


def _times(steps: list[tuple[dict[str, Any], float]]) -> tuple[float, float]:
    """Of the steps after the warm-up. Rows come in bursts, so the wall is measured from the end of one to the last end."""
    counted = [(row, moment) for row, moment in steps if row["step"] > WARM_UP]
    device = statistics.median(1000 * row["examples"] / row["examples_per_s"] for row, _ in counted)
    (first, began), (last, ended) = steps[WARM_UP - 1], steps[-1]
    return device, 1000 * (ended - began) / (last["step"] - first["step"])


def plain_loop(precision: str, steps: int, tiny: bool) -> tuple[float, float, float]:
    """The same figures of forward, backward and update alone, each batch padded to its longest text."""
    examples, device = made_examples("encoder"), torch.device("cuda" if CARD else "cpu")
    model = copy.deepcopy(made_model("encoder", tiny)).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    if CARD:
        torch.cuda.reset_peak_memory_stats()
    rows = np.random.default_rng(0).permutation(SIZE)
    moments = []
    for step in range(steps):
        chosen = rows[step * 32 % SIZE :][:32]
        batch = {name: tensor.to(device) for name, tensor in examples.collate(chosen).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**batch, labels=torch.from_numpy(examples.labels[chosen]).to(device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step + 1 in (WARM_UP, steps):
            if CARD:
                torch.cuda.synchronize()
            moments.append(time.perf_counter())
    wall = 1000 * (moments[1] - moments[0]) / (steps - WARM_UP)
    return wall, wall, torch.cuda.max_memory_allocated() / 2**20 if CARD else 0.0


def cases() -> list[Case]:
    """Most telling first, since time may run out."""
    methods = ("vanilla", "static_sd", "dynsdpb", "kd")
    narrow = ("fp32", "bf16", "fp16") if CARD else ("fp32", "bf16")
    encoder = [Case("encoder", m, p) for m, p in itertools.product(methods, narrow)]
    free = [Case("encoder", m, p, deterministic=False) for m, p in itertools.product(("vanilla", "dynsdpb"), narrow)]
    decoder = [Case("decoder", m, "bf16") for m in ("vanilla", "dynsdpb")]
    compiled = [Case("encoder", "vanilla", compiled=True), Case("encoder", "vanilla", "bf16", False, True)]
    return [*encoder, *decoder, *free, *compiled]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    began, table, left_out = time.monotonic(), [], []
    for precision in ("fp32", "bf16"):
        table.append(
            ["encoder", "plain loop", precision, "no", "no", *_shown(plain_loop(precision, asked.steps, asked.tiny))]
        )
    for case in cases():
        # What is compiled takes a minute of its own.
        if time.monotonic() - began > asked.seconds - (40 if case.compiled else 4):
            left_out.append(" ".join(map(str, case)))
            continue
        figures = _shown(measure(case, asked.steps, asked.tiny))
        words = ["yes" if yes else "no" for yes in (case.deterministic, case.compiled)]
        table.append([case.model, case.method, case.precision, *words, *figures])
        print(" ".join(table[-1]), file=sys.stderr, flush=True)
    names = [
        "model",
        "method",
        "precision",
        "deterministic",
        "compiled",
        "device, ms a step",
        "wall, ms a step",
        "peak MiB",
    ]
    measured.show(names, table, "", markdown=True)
    print(measured.machine())
    if left_out:
        print(f"No time for: {'; '.join(left_out)}")


def _shown(figures: tuple[float, float, float]) -> list[str]:
    return [measured.plain(figure) for figure in figures]


if __name__ == "__main__":
    main()
