"""Seconds and memory of `sdreport` over a folder of so many made runs.

python scripts/bench_report.py                                 # 100 and 1,000 runs of 400 validation examples
python scripts/bench_report.py --runs 100 --examples 40430     # as many as QQP has
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pyarrow import parquet
from rich.console import Console
from rich.table import Table

from selfdistill_cli.config.schema import CONF_DIR, register_schemas

TASKS = ("rte", "sst2", "mrpc", "cola")
METHODS = ("vanilla", "vanilla_matched", "static_sd", "dynsdpb", "kd", "dcs", "label_smoothing", "focal")
SIGNALS = ("uncertainty", "discrimination", "tau", "alpha")
EVALUATIONS = 6
STEPS = 300
SHAPES: list[list[str]] = [
    *([f"task={task}", f"method={method}"] for task in TASKS for method in METHODS),
    *([f"task={task}", "method=dynsdpb", f"method.tau={tau}", f"method.alpha={alpha}"]
      for task in TASKS for tau in (1, 2, 4) for alpha in (0.5, 1.5, 2)),
    *([f"task={task}", "method=dcs", f"method.lambda_={factor}"] for task in TASKS for factor in (1.5, 2, 5)),
]  # fmt: skip
"""Every method on every task, a grid and a curve on each; further runs are further seeds of all of them."""


def settings(words: list[str]) -> Any:
    """What `sdrun` would write into config.yaml."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=["model=minilm", *words]), resolve=True)


def metrics(rng: np.random.Generator, method: str, score: float) -> str:
    """Rows of training, evaluations and gradients, with the columns that the method would record."""
    rows: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        row = {"kind": "train", "step": step, "epoch": step / 100, "loss": 1 / step, "loss/ce": 1 / step}
        row |= {"lr": 1e-5, "grad_norm": 1.0, "examples": 32, "examples_per_s": 100.0, "tokens_per_s": 5e3}
        if method == "dynsdpb":
            row |= {
                f"{s}/{part}": float(rng.random())
                for s in SIGNALS
                for part in ("mean", "min", "p10", "p50", "p90", "max")
            }
        rows.append(row)
        if step % 10 == 0:
            rows.append({"kind": "gradients", "step": step, "epoch": step / 100}
                        | {f"norm/layer {layer}": float(rng.random()) for layer in range(6)})  # fmt: skip
    for number in range(1, EVALUATIONS + 1):
        values = {"eval/accuracy": score * number / EVALUATIONS, "eval/loss": 0.5}
        values |= {
            f"signal/{s}/{m}": 0.6 for s in ("uncertainty", "discrimination", "margin") for m in ("auroc", "spearman")
        }
        rows.append({"kind": "eval", "step": number * 50, "epoch": number / 2} | values)
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_runs(folder: Path, runs: int, examples: int) -> None:
    """Finished runs whose predictions are right with a probability of their own."""
    configs = [settings(words) for words in SHAPES[:runs]]
    for number in range(runs):
        cfg = configs[number % len(configs)] | {"seed": number // len(configs)}
        rng = np.random.default_rng(number)
        task, method = cfg["task"]["name"], cfg["method"]["name"]
        run = folder / task / "minilm" / method / f"{number:010x}"
        run.mkdir(parents=True)
        labels = rng.integers(0, 2, examples)
        logits = rng.normal(0, 1, (examples, 2)) + np.eye(2)[labels]
        predictions = logits.argmax(1)
        score = float((predictions == labels).mean())
        table = {"split": ["validation"] * examples, "index": np.arange(examples), "text": ["some words of a text"] * examples,
                 "logits": list(logits.astype(np.float32)), "prediction": predictions, "label": labels}  # fmt: skip
        parquet.write_table(pa.table(table), run / "predictions.parquet")
        (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")
        (run / "metrics.jsonl").write_text(metrics(rng, method, score), encoding="utf-8")
        results = {
            "status": "finished", "key": run.name, "task": task, "model": "minilm", "method": method, "seed": cfg["seed"],
            "metric": "accuracy", "score": score, "metrics": {"final": {"accuracy": score}}, "examples_forwarded": 9600,
            "train_examples": 3200, "synthetic": False, "kind": "classification", "labels": ["a", "b"], "seconds": 60.0,
        }  # fmt: skip
        (run / "results.json").write_text(json.dumps(results), encoding="utf-8")


def measure(folder: Path, runs: int, examples: int) -> tuple[float, float, int]:
    """Seconds, MiB of the largest process, and figures of a report over that many runs."""
    outputs, report = folder / f"outputs-{runs}", folder / f"report-{runs}"
    make_runs(outputs, runs, examples)
    began = time.monotonic()
    command = [sys.executable, "-m", "selfdistill_cli.reports.command", str(outputs), "--out", str(report)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return seconds, largest, len(list((report / "figures").glob("*.svg")))


def main() -> None:
    """Print a row for each number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--examples", type=int, default=400, help="validation examples of a run")
    arguments = parser.parse_args()
    register_schemas()
    table = Table("runs", "validation examples", "seconds", "MiB", "figures")
    with tempfile.TemporaryDirectory() as folder:
        for runs in sorted(arguments.runs):
            seconds, memory, figures = measure(Path(folder), runs, arguments.examples)
            table.add_row(f"{runs:,}", f"{arguments.examples:,}", f"{seconds:.1f}", f"{memory:,.0f}", str(figures))
    Console().print(table)


if __name__ == "__main__":
    main()
