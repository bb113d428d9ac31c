"""What a run costs beside its training: the command's own start, the time to the first step, jobs of a sweep.

python scripts/bench_start.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROUNDS = 7
SDRUN = [sys.executable, "-m", "selfdistill_cli.train"]
SHORT = ["model=tiny_bert", "task=synth_entailment", "method=vanilla", "tracking=none", "schedule.max_steps=20"]
SEEDS = range(12)


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def first_step(outputs: Path) -> float:
    """Seconds from the command to the first row of metrics.jsonl."""
    began = time.perf_counter()
    run = subprocess.Popen(
        [*SDRUN, *SHORT, f"paths.outputs={outputs}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while run.poll() is None:
        found = list(outputs.glob("*/*/*/*/metrics.jsonl"))
        if found and found[0].stat().st_size:
            taken = time.perf_counter() - began
            run.wait()
            return taken
        time.sleep(0.005)
    raise SystemExit("the run ended without a step")


def trained(outputs: Path) -> float:
    """Seconds that all runs below spent from their first step to the end of their training."""
    return sum(json.loads(path.read_text())["seconds"] for path in outputs.rglob("results.json"))


def main() -> None:
    table = Table("", "seconds", "from – to", "")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        commands = {
            "python -c 'import hydra'": [sys.executable, "-c", "import hydra"],
            "sdrun --help": [*SDRUN, "--help"],
            "sdrun --cfg job": [*SDRUN, "--cfg", "job"],
        }
        taken: dict[str, list[float]] = {name: [] for name in (*commands, "to the first step")}
        for number in range(ROUNDS):
            for name, command in commands.items():
                taken[name].append(seconds(command))
            taken["to the first step"].append(first_step(folder / f"first{number}"))
        base = statistics.median(taken["python -c 'import hydra'"])
        for name, found in taken.items():
            middle = statistics.median(found)
            table.add_row(
                name, f"{middle:.2f}", f"{min(found):.2f} – {max(found):.2f}", f"{middle / base:.1f} x import hydra"
            )
        swept = seconds([*SDRUN, "-m", *SHORT, f"seed={','.join(map(str, SEEDS))}", f"paths.outputs={folder}/swept"])
        beside = (swept - trained(folder / "swept")) / len(SEEDS)
        table.add_row("12 jobs in one process", f"{swept:.1f}", "", f"{beside:.2f} s a job beside its training")
        apart = sum(seconds([*SDRUN, *SHORT, f"seed={seed}", f"paths.outputs={folder}/apart"]) for seed in SEEDS)
        table.add_row("12 processes, one after the other", f"{apart:.1f}", "", f"{apart / swept:.1f} x as long")
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()
