"""What a run costs beside its training: the command's own start, the time to the first step, jobs of a sweep.

python scripts/bench_start.py                        the start, and twelve short jobs: in one process, and as twelve
python scripts/bench_start.py --side-by-side 4       twelve jobs one after the other, and four at a time
python scripts/bench_start.py --side-by-side 4 model=minilm task=synth_entailment schedule.max_steps=200
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measured
import torch

SDRUN = [sys.executable, "-m", "selfdistill_cli.train"]
SHORT = ["model=tiny_bert", "task=synth_entailment", "method=vanilla", "tracking=none", "schedule.max_steps=20"]
LONGER = ["model=minilm", "task=synth_entailment", "method=vanilla", "tracking=none", "schedule.max_steps=100"]
SEEDS = range(12)


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
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


def weights(outputs: Path) -> dict[str, str]:
    """SHA-256 of the trained weights of each run, by its key."""
    found = outputs.glob("*/*/*/*/model/model.safetensors")
    return {path.parent.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def starts(rows: list[list[str]], folder: Path, rounds: int) -> None:
    """The command's own start, and twelve jobs in one process and as twelve."""
    commands = {
        "python -c 'import hydra'": [sys.executable, "-c", "import hydra"],
        "sdrun --help": [*SDRUN, "--help"],
        "sdrun --cfg job": [*SDRUN, "--cfg", "job"],
    }
    taken: dict[str, list[float]] = {name: [] for name in (*commands, "to the first step")}
    for number in range(rounds):
        for name, command in commands.items():
            taken[name].append(seconds(command))
        taken["to the first step"].append(first_step(folder / f"first{number}"))
    base = statistics.median(taken["python -c 'import hydra'"])
    for name, found in taken.items():
        middle = statistics.median(found)
        spread = f"{min(found):.2f} – {max(found):.2f}"
        rows.append([name, f"{middle:.2f}", spread, f"{middle / base:.1f} x import hydra"])
    swept = sweep(folder / "swept", SHORT)
    beside = (swept - trained(folder / "swept")) / len(SEEDS)
    rows.append(["12 jobs in one process", f"{swept:.1f}", "", f"{beside:.2f} s a job beside its training"])
    apart = sum(seconds([*SDRUN, *SHORT, f"seed={seed}", f"paths.outputs={folder}/apart"]) for seed in SEEDS)
    rows.append(["12 processes, one after the other", f"{apart:.1f}", "", f"{apart / swept:.1f} x as long"])


def sweep(outputs: Path, words: list[str]) -> float:
    """Seconds of a sweep over twelve seeds."""
    return seconds([*SDRUN, "-m", *words, f"seed={','.join(map(str, SEEDS))}", f"paths.outputs={outputs}"])


def side_by_side(rows: list[list[str]], folder: Path, jobs: int, words: list[str], rounds: int) -> None:
    """Twelve jobs one after the other and `jobs` at a time, in turn; and one alone with as many threads as each of these."""
    local = ["hydra/launcher=local", f"hydra.launcher.jobs_per_gpu={jobs}"]
    ways = {"one after the other": [], f"{jobs} side by side": local}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for way, (name, how) in enumerate(ways.items()):
            taken[name].append(sweep(folder / f"way{way}_{number}", [*words, *how]))
    threads = max(1, torch.get_num_threads() // jobs)
    seconds([*SDRUN, *words, f"seed={SEEDS[0]}", f"runtime.threads={threads}", f"paths.outputs={folder}/alone"])
    ((key, digest),) = weights(folder / "alone").items()
    first = min(taken["one after the other"])
    for way, (name, found) in enumerate(taken.items()):
        spread = f"{min(found):.1f} – {max(found):.1f}"
        bits = "the same" if weights(folder / f"way{way}_0")[key] == digest else "other"
        note = f"{first / min(found):.2f} x as fast; {bits} bits as alone with {threads} thread(s)"
        rows.append([f"12 jobs {name}", f"{min(found):.1f}", spread, note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side-by-side", type=int, metavar="JOBS", help="compare so many jobs at a time with one")
    parser.add_argument("words", nargs="*", help="of the sweep, in the place of what is swept by default")
    parser.add_argument("--rounds", type=int, help="of each start (7), or of each sweep (2)")
    measured.add_option(parser)
    asked = parser.parse_args()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        if asked.side_by_side:
            words = [*asked.words, "tracking=none"] if asked.words else LONGER
            side_by_side(rows, Path(temporary), asked.side_by_side, words, asked.rounds or 2)
        else:
            starts(rows, Path(temporary), asked.rounds or 7)
    measured.show(("", "seconds", "from – to", " "), rows, "starting", asked.markdown)
    print(measured.machine())


if __name__ == "__main__":
    main()
