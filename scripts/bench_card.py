"""What determinism and precision cost on a CUDA card: a BERT of base size from random weights on a generated task.

python scripts/bench_card.py                # examples/s: medians over the steps after the first ten

Deterministic or not is settled once in a process, so each of the two has one of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

WARM_UP = 10
CASES = tuple(itertools.product(("vanilla", "dynsdpb"), ("fp32", "bf16", "fp16")))


def train(outputs: Path, *words: str) -> Path:
    """Do the run of these settings below `outputs`, and return its directory."""
    import hydra

    from selfdistill_cli import experiment
    from selfdistill_cli.config import schema

    schema.register_schemas()
    common = ["tracking=none", "task=synth_entailment", f"paths.outputs={outputs}"]
    with hydra.initialize_config_dir(str(schema.CONF_DIR), version_base="1.3"):
        cfg = hydra.compose("config", overrides=[*common, *words])
    return Path(experiment.run(cfg)["directory"])


def base_model(folder: Path) -> Path:
    """A BERT of base size with random weights and the tokenizer of tiny_bert, as a Hugging Face folder."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tiny = train(folder / "tiny", "model=tiny_bert", "schedule.max_steps=1", "method=vanilla")
    BertForSequenceClassification(BertConfig(num_labels=2)).save_pretrained(folder / "bert")
    AutoTokenizer.from_pretrained(tiny / "model").save_pretrained(folder / "bert")
    return folder / "bert"


def speeds(home: Path, deterministic: bool, steps: int, batch: int) -> list[tuple[float, int]]:
    """Examples a second and examples a step of every case."""
    model, found = base_model(home), []
    for method, precision in CASES:
        run = train(
            home / f"{method}_{precision}",
            *(f"model.name={model}", f"method={method}", f"runtime.precision={precision}"),
            *(f"runtime.deterministic={deterministic}", f"schedule.max_steps={steps}", f"schedule.batch_size={batch}"),
            *("schedule.keep=last", "task.validation_examples=50", "runtime.token_budget=16384"),
        )
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps_of = [row for row in rows if row["kind"] == "train"][WARM_UP:]
        found.append((statistics.median(row["examples_per_s"] for row in steps_of), steps_of[-1]["examples"]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    table = Table(title=f"batches of {asked.batch}, {asked.steps} steps: examples/s (ms a step)")
    for name in ("method", "precision", "deterministic", "not", "ratio"):
        table.add_column(name, justify="right")
    columns = []
    with tempfile.TemporaryDirectory() as home:
        for deterministic in (True, False):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                arguments = Path(home) / str(deterministic), deterministic, asked.steps, asked.batch
                columns.append(process.submit(speeds, *arguments).result())
    for (method, precision), (fixed, count), (free, _) in zip(CASES, *columns, strict=True):
        shown = (f"{speed:.0f} ({1000 * count / speed:.1f})" for speed in (fixed, free))
        table.add_row(method, precision, *shown, f"{fixed / free:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
