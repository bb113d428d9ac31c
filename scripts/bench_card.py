"""What determinism and precision cost on a CUDA card: a BERT of base size from random weights on a generated task.

python scripts/bench_card.py                # medians of examples/s over the steps after the first ten
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

WARM_UP = 10


def sdrun(outputs: Path, *words: str) -> Path:
    """Run the command with its runs below `outputs`, and return the one run's directory."""
    environment = os.environ | {"SDRUN_OUTPUTS": str(outputs)}
    command = [sys.executable, "-m", "selfdistill_cli.train", "tracking=none", "task=synth_entailment", *words]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    (results,) = outputs.glob("*/*/*/*/results.json")
    return results.parent


def base_model(folder: Path) -> Path:
    """A BERT of base size with random weights and the tokenizer of tiny_bert, as a Hugging Face folder."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tiny = sdrun(folder / "tiny", "model=tiny_bert", "schedule.max_steps=1", "method=vanilla")
    model = BertForSequenceClassification(BertConfig(num_labels=2))
    model.save_pretrained(folder / "bert")
    AutoTokenizer.from_pretrained(tiny / "model").save_pretrained(folder / "bert")
    return folder / "bert"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    table = Table(title=f"batch {asked.batch}, {asked.steps} steps")
    for name in ("method", "precision", "deterministic", "examples/s", "ms a step", "ratio"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as home:
        model, first = base_model(Path(home)), None
        cases = itertools.product(("vanilla", "dynsdpb"), ("fp32", "bf16", "fp16"), (False, True))
        for number, (method, precision, deterministic) in enumerate(cases):
            run = sdrun(
                Path(home) / f"of {number}",
                *(f"model.name={model}", f"method={method}", f"runtime.precision={precision}"),
                *(f"runtime.deterministic={deterministic}", f"schedule.max_steps={asked.steps}"),
                *(f"schedule.batch_size={asked.batch}", "schedule.keep=last", "task.validation_examples=50"),
            )
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            speeds = [row["examples_per_s"] for row in rows if row["kind"] == "train"][WARM_UP:]
            speed, count = statistics.median(speeds), [row["examples"] for row in rows if row["kind"] == "train"][-1]
            first = first or speed
            cells = f"{speed:.0f}", f"{1000 * count / speed:.1f}", f"{speed / first:.2f}"
            table.add_row(method, precision, str(deterministic), *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
