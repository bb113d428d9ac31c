"""Training throughput against the Hugging Face Trainer, in alternating rounds on this machine.

SDRUN_DATA=<folder> python scripts/bench_throughput.py             # real RTE; without SDRUN_DATA a generated task
python scripts/bench_throughput.py --what methods                  # what the methods cost beside vanilla
python scripts/bench_throughput.py --what parts                    # what each of our measures is worth
SDRUN_DATA=<folder> python scripts/bench_throughput.py --what peers   # others at their best: scripts/peers/

Both sides: the same model, batch size, learning rate, largest length and number of steps; the first two steps and
evaluation are not counted. Each side has a process of its own, kept over all rounds; one trains at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import measured
from peers import rounds
from peers.comparison import COMPARISONS

BATCH, LENGTH, LR, SKIPPED, LAYERS = 32, 128, 5e-5, 2, 6
Taken = tuple[list[tuple[int, float]], float | None]
"""Examples and seconds of each step; the share of the steps that losses, their signals and diagnostics took."""
WHAT = {
    "trainer": {
        "Trainer, padding to the longest": "trainer longest fp32",
        "Trainer, pad_to_max_length": "trainer max fp32",
        "Trainer, padding to the longest, bf16": "trainer longest bf16",
        "sdrun": "sdrun fp32 vanilla",
        "sdrun, runtime.precision=bf16": "sdrun bf16 vanilla",
    },
    "methods": {
        "vanilla": "sdrun fp32 vanilla",
        "static_sd": "sdrun fp32 static_sd",
        "dynsdpb": "sdrun fp32 dynsdpb",
        "kd": "sdrun fp32 kd",
        "dcs": "sdrun fp32 dcs",
        "kd, teacher computed in each step": "sdrun fp32 kd recomputed",
        "kd, teacher of twice the layers, stored": "sdrun fp32 kd twice",
        "kd, teacher of twice the layers computed in each step": "sdrun fp32 kd twice-recomputed",
    },
    "parts": {
        f"{precision}, {words}": f"sdrun {precision} vanilla {part}"
        for precision in ("fp32", "bf16")
        for part, words in {
            "nothing": "all",
            "dropout": "without dropout",
            "concatenation": "padded",
            "micro-batches": "padded, without micro-batches",
            "attention": "padded, without attention",
            "shapes": "padded, without shapes",
        }.items()
        if (precision, part) != ("fp32", "shapes")
    },
}


def compose(*overrides: str) -> Any:
    """The configuration of the run that is measured."""
    import hydra

    from selfdistill_cli.config import schema

    schema.register_schemas()
    real = (Path(os.environ.get("SDRUN_DATA", "data")) / "rte").is_dir()
    with hydra.initialize_config_dir(str(schema.CONF_DIR), version_base="1.3"):
        return hydra.compose("config", overrides=[
            f"task={'rte' if real else 'synth_entailment'}", "model=minilm", f"task.max_length={LENGTH}",
            f"schedule.batch_size={BATCH}", f"schedule.lr={LR}", "schedule.scheduler=constant", "schedule.warmup_ratio=0",
            "tracking=none", "task.validation_examples=32", "runtime.checkpoint_every='9999 steps'", *overrides,
        ])  # fmt: skip


# --- the Trainer's side ----------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _texts() -> tuple[Any, Any, Any]:
    from selfdistill_cli.kinds import load_task
    from selfdistill_cli.models import load_model

    cfg = compose()
    task = load_task(cfg.task, str(cfg.paths.data), 0)
    return cfg, task, load_model(cfg.model, task, 0).tokenizer


def time_trainer(padding: str, precision: str, seed: int, steps: int) -> Taken:
    """Examples and seconds of each step of the Hugging Face Trainer."""
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    from selfdistill_cli.models import load_model

    cfg, task, tokenizer = _texts()
    encoded = tokenizer(list(task.train.texts), list(task.train.pairs), truncation=True, max_length=LENGTH)
    rows = [
        {**{name: encoded[name][i] for name in encoded}, "label": int(task.train.labels[i])}
        for i in range(len(task.train))
    ]
    moments: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, learning_rate=LR, max_steps=steps, bf16=precision == "bf16",
            weight_decay=0.01, lr_scheduler_type="constant", use_cpu=not torch.cuda.is_available(), seed=seed,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        padded = {"padding": "max_length", "max_length": LENGTH} if padding == "max" else {"padding": True}
        Trainer(
            model=load_model(cfg.model, task, seed).model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer, **padded),
            callbacks=[Clock],
        ).train()
    return [(BATCH, after - before) for before, after in itertools.pairwise(moments)][SKIPPED - 1 :], None


# --- our side --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _without(part: str) -> Iterator[None]:
    """One of our measures left out."""
    from selfdistill_cli.engine.batching import Batching
    from selfdistill_cli.models import concatenated
    from selfdistill_cli.models.cpu import tuning

    with mock.patch.dict(tuning.TUNINGS) as tunings, contextlib.ExitStack() as changed:
        tunings.pop(part, None)
        if part in ("concatenation", "micro-batches", "attention", "shapes"):  # all of them matter to padded rows
            changed.enter_context(mock.patch.object(concatenated, "concatenate", return_value=False))
        if part == "micro-batches":
            whole = mock.patch("selfdistill_cli.engine.step.micro_batches", lambda n, *_: [(-n).argsort(kind="stable")])
            changed.enter_context(whole)
        if part == "shapes":
            changed.enter_context(mock.patch.object(Batching, "of_few_shapes", Batching))
        yield


def time_sdrun(precision: str, method: str, variant: str, seed: int, steps: int, outputs: str) -> Taken:
    """Examples and seconds of each step of `sdrun`, as its metrics.jsonl has them, and what its losses took of them."""
    from selfdistill_cli import experiment
    from selfdistill_cli.engine.loop import TrainingLoop

    folder = f"{outputs}/{seed}/{precision}-{variant}"
    settings = [f"method={method}", f"seed={seed}", f"schedule.max_steps={steps}", f"runtime.precision={precision}"]
    settings += [f"paths.outputs={folder}", f"paths.cache={outputs}/cache", "runtime.profile=true"]
    teacher = None
    if method in ("kd", "dcs"):
        layers = [f"+model.config.num_hidden_layers={2 * LAYERS}"] if "twice" in variant else []
        made = compose(f"paths.outputs={outputs}", "method=vanilla", "schedule.max_steps=2", *layers)
        teacher = Path(experiment.run(made)["directory"])
        settings.append(f"method.teacher.path={teacher}")
    run = TrainingLoop.run

    def recomputing(loop: Any) -> Any:
        _forward_teacher_too(loop, teacher)
        return run(loop)

    with contextlib.ExitStack() as changed:
        changed.enter_context(_without(variant))
        if "recomputed" in variant:
            changed.enter_context(mock.patch.object(TrainingLoop, "run", recomputing))
        directory = Path(experiment.run(compose(*settings))["directory"])
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    taken = [(row["examples"], row["examples"] / row["examples_per_s"]) for row in rows if row["kind"] == "train"]
    phases = json.loads((directory / "results.json").read_text())["phase_seconds"]
    of_steps = sum(phases[name] for name in ("data", "forward", "loss", "backward", "optimizer", "diagnostics"))
    return taken[SKIPPED:-1], (phases["loss"] + phases["diagnostics"]) / of_steps


def _forward_teacher_too(loop: Any, folder: Path | None) -> None:
    """Compute the teacher's logits in each step, as without a store of them; the stored ones are used all the same."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from selfdistill_cli.models.concatenated import leave_out_padding

    assert folder is not None
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "model").to(loop.accelerator.device).eval()
    leave_out_padding(teacher, "auto", loop.accelerator.device)
    teacher = loop.accelerator.prepare_model(teacher, evaluation_mode=True)
    examples = loop.examples

    class Both:
        def __getattr__(self, name: str) -> Any:
            return getattr(examples, name)

        def forward(self, model: Any, batch: Any, device: Any) -> Any:
            if model.training:
                with torch.no_grad():
                    examples.forward(teacher, batch, device)
            return examples.forward(model, batch, device)

    loop.examples = Both()


# --- rounds ----------------------------------------------------------------------------------------


def _quiet() -> None:
    """A worker's own output is of no interest; errors come back as exceptions."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def measure(what: str, rounds: int, steps: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Examples a second of every contender in every round, and the shares that losses took of our steps."""
    speeds: dict[str, list[float]] = {name: [] for name in WHAT[what]}
    shares: dict[str, list[float]] = {name: [] for name in WHAT[what]}
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as outputs,
        ProcessPoolExecutor(1, spawn, _quiet) as theirs,
        ProcessPoolExecutor(1, spawn, _quiet) as ours,
    ):
        for number in range(rounds):
            for name, contender in WHAT[what].items():
                side, *words = contender.split()
                if side == "trainer":
                    padding, precision = words
                    taken, share = theirs.submit(time_trainer, padding, precision, number, steps).result()
                else:
                    precision, method, variant = (*words, "nothing")[:3]
                    arguments = precision, method, variant, number, steps, outputs
                    taken, share = ours.submit(time_sdrun, *arguments).result()
                speeds[name].append(sum(n for n, _ in taken) / sum(seconds for _, seconds in taken))
                shares[name] += [] if share is None else [share]
                print(f"round {number + 1}: {name}: {speeds[name][-1]:.1f} examples/s", file=sys.stderr, flush=True)
    return speeds, shares


def rows_of(speeds: dict[str, list[float]], shares: dict[str, list[float]]) -> list[list[str]]:
    """Of the table; ratios are to the first one in the same round."""
    first, rows = next(iter(speeds.values())), []
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(found, first, strict=True)]
        figures = (text for values in (found, ratios) for text in (measured.median(values), measured.spread(values)))
        rows.append([name, *figures, f"{statistics.median(shares[name]):.1%}" if shares[name] else ""])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=[*WHAT, "peers"], default="trainer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of a round; not of peers, where each task has its own")
    parser.add_argument(
        "--task", choices=list(COMPARISONS), default=["rte", "sst2", "gsm8k"], nargs="+", help="of peers"
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default=["fp32", "bf16"], nargs="+", help="of peers")
    parser.add_argument("--json", type=Path, help="of peers: a file for every single figure")
    parser.add_argument("--no-tries", action="store_true", help="of peers: leave out what is tried in one round alone")
    measured.add_option(parser)
    asked = parser.parse_args()
    if asked.what == "peers":
        rounds.run(asked)
        return
    speeds, shares = measure(asked.what, asked.rounds, asked.steps)
    columns = ("", "examples/s", "from – to", f"ratio to {next(iter(speeds))}", "from – to ", "losses")
    measured.show(columns, rows_of(speeds, shares), f"{compose().task.name}, minilm", asked.markdown)
    print(
        f"batch {BATCH}, at most {LENGTH} tokens, {asked.rounds} rounds of {asked.steps} steps, the first {SKIPPED} "
        f"not counted; medians. losses: their share of a step, with signals and diagnostics\n{measured.machine()}"
    )


if __name__ == "__main__":
    main()
