"""Does a sweep take as long as `sdrun --plan` said? Each sweep is planned, then run, in a folder of its own.

python scripts/check_plan.py            three sweeps: classification, written answers, several methods with a teacher
python scripts/check_plan.py labelled   one of them

On an idle machine; some ten minutes in all on two cores. Prints, for each sweep, what was estimated (from short runs;
then once more, from the finished runs themselves) and what it took, from the start of the command to its end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SWEEPS = {
    "labelled": ["-m", "method=vanilla,dynsdpb", "seed=0,1", "task.train_examples=400", "schedule.epochs=2"],
    "generation": [
        *("-m", "method=vanilla,dynsdpb", "task=synth_arithmetic", "model=tiny_llama", "seed=0,1"),
        *("task.train_examples=1000", "schedule.epochs=2"),
    ],
    "teacher": [
        *("-m", "method=vanilla,vanilla_matched,static_sd,kd,dcs", "seed=0", "task.train_examples=400"),
        *("schedule.epochs=2", "method.teacher.epochs=1"),
    ],
}
PLAN = """
import json, sys
sys.argv[0] = "sdrun"
from selfdistill_cli.planning import page
from selfdistill_cli.train import main
show = page.print_plan
def keep(console, plan, outputs):
    runs = {cell.directory.key: estimate and estimate.seconds for cell, estimate in zip(plan.cells, plan.estimates)}
    with open(FIGURES, "w") as file:
        json.dump({"seconds": plan.seconds, "runs": runs}, file)
    show(console, plan, outputs)
page.print_plan = keep
main()
"""
"""`sdrun --plan`, which also writes its figures into a file."""


def planned(words: list[str], folder: Path) -> tuple[dict[str, Any], float]:
    """What the plan says (seconds, in all and by key), and the seconds that it took to make."""
    figures, began = folder / "plan.json", time.monotonic()
    code = PLAN.replace("FIGURES", repr(str(figures)))
    subprocess.run([sys.executable, "-c", code, "--plan", *words], cwd=folder, check=True)
    return json.loads(figures.read_text()), time.monotonic() - began


def check(name: str, words: list[str]) -> None:
    """Plan a sweep, run it, and compare."""
    print(f"\n== {name}: sdrun {' '.join(words)}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["SDRUN_OUTPUTS"] = str(folder / "outputs")
        plan, to_plan = planned(words, folder)
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "selfdistill_cli.train", *words], cwd=folder, check=True)
        took = time.monotonic() - began
        print(
            f"{name}: planned {plan['seconds']:.0f} s (in {to_plan:.0f} s), took {took:.0f} s: {_off(plan['seconds'], took)}"
        )
        for record in sorted((folder / "outputs").glob("sweeps/*/jobs/*.json"), key=lambda file: int(file.stem)):
            job = json.loads(record.read_text())
            expected = plan["runs"][job["key"]]
            alone = job["seconds"] + json.loads(Path(job["directory"], "results.json").read_text())["overhead_seconds"]
            words_of = " ".join(job["overrides"][:2])
            print(
                f"  job {job['job']} ({words_of}): planned {expected:.1f} s, took {alone:.1f} s: {_off(expected, alone)}"
            )
        by_seed = folder / "again"
        by_seed.mkdir()
        again = [word if not word.startswith("seed=") else "seed=7" for word in words]
        longer, quick = planned(again, by_seed)
        share = sum(longer["runs"].values()) / sum(second for second in plan["runs"].values() if second)
        print(
            f"  by finished runs, another seed: {longer['seconds']:.0f} s (in {quick:.0f} s); {share:.2f} of the above"
        )
        shutil.rmtree(folder / "outputs")


def _off(planned: float, took: float) -> str:
    return f"{100 * (planned / took - 1):+.0f} %"


if __name__ == "__main__":
    for asked in sys.argv[1:] or SWEEPS:
        check(asked, SWEEPS[asked])
