"""A million training rows against ten thousand: memory, and the time to the first step, the first time and after it.

python scripts/bench_scale.py                              # tiny_bert
python scripts/bench_scale.py --rows 10000 100000 1000000 --model minilm
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measured
import numpy as np
import pyarrow as pa
from pyarrow import parquet

STEPS = 100
WORDS = np.array([a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "ra", "lo", "mik")])


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Texts of 5 to 30 words, labelled by the first of them."""
    rng = np.random.default_rng(seed)
    writer: parquet.ParquetWriter | None = None
    for begin in range(0, rows, 50_000):
        lengths = rng.integers(5, 31, size=min(50_000, rows - begin))
        words = rng.integers(0, len(WORDS), size=(len(lengths), 30))
        texts = [" ".join(WORDS[row[:n]]) for row, n in zip(words, lengths, strict=True)]
        table = pa.table({"text": texts, "label": words[:, 0] % 2})
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def measure(folder: Path, rows: int, model: str, seed: int) -> tuple[float, float, float]:
    """Seconds to the first step, MiB of memory at most, milliseconds a later step, of one `sdrun`."""
    outputs = folder / "outputs"
    settings = [
        f"task.path={folder}/{rows}.parquet", f"task.validation_path={folder}/validation.parquet",
        f"model={model}", f"seed={seed}", f"paths.outputs={outputs}", f"schedule.max_steps={STEPS}",
        "task=custom", "task.text=text", "task.label=label", "method=vanilla", "tracking=none",
        "runtime.checkpoint_every='1000 steps'",
    ]  # fmt: skip
    before = set(outputs.rglob("metrics.jsonl"))
    began = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, "-m", "selfdistill_cli.train", *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    first = last = 0.0
    ended, status, usage = os.wait4(run.pid, os.WNOHANG)
    while not ended and not last:
        found = set(outputs.rglob("metrics.jsonl")) - before
        lines = next(iter(found)).read_text().count('"train"') if found else 0
        now = time.monotonic()
        first = first or (now if lines else 0.0)
        last = now if lines >= STEPS else 0.0
        time.sleep(0.005)
        ended, status, usage = os.wait4(run.pid, os.WNOHANG)
    if not ended:
        _, status, usage = os.wait4(run.pid, 0)
    if status or not last:
        assert run.stderr is not None
        sys.exit(run.stderr.read().decode())
    return first - began, usage.ru_maxrss / 1024, (last - first) / (STEPS - 1) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--model", default="tiny_bert")
    measured.add_option(parser)
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "validation.parquet", 500, seed=1)
        for rows in arguments.rows:
            write_rows(Path(folder) / f"{rows}.parquet", rows, seed=0)
            for seed, start in enumerate(("first", "second", "third")):
                seconds, memory, step = measure(Path(folder), rows, arguments.model, seed)
                found.append([f"{rows:,}", start, f"{seconds:.1f}", f"{memory:,.0f}", f"{step:.1f}"])
    columns = ("rows", "start", "first step after, s", "most memory, MiB", "a step, ms")
    measured.show(columns, found, arguments.model, arguments.markdown)
    print(measured.machine())


if __name__ == "__main__":
    main()
