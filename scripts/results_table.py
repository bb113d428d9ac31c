"""Print a Markdown table of finished runs: mean ± standard deviation over seeds.

python scripts/results_table.py outputs
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any


def setting(run: Path) -> str:
    """The method of a run, marked if its epochs were doubled to match the compute of the others."""
    results = json.loads((run / "results.json").read_text())
    matched = "match_compute: true" in (run / "config.yaml").read_text()
    return results["method"] + (" (matched compute)" if matched else "")


def spread(values: list[float], digits: int) -> str:
    """`0.8123 ± 0.0045`; a single value alone."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def main(outputs: Path) -> None:
    """Group the runs below `outputs` by task, model, training examples and method."""
    groups: dict[tuple[str, str, int, str], list[dict[str, Any]]] = {}
    for path in sorted(outputs.glob("*/*/*/*/results.json")):
        found = json.loads(path.read_text())
        key = (found["task"], found["model"], found["train_examples"], setting(path.parent))
        groups.setdefault(key, []).append(found)
    print("| task (training examples) | method | metric | score | examples forwarded | time | seeds |")
    print("|---|---|---|---|---|---|---|")
    for (task, _, size, method), runs in groups.items():
        cells = [
            f"{task} ({size:,})",
            method,
            runs[0]["metric"],
            spread([run["score"] for run in runs], 4),
            f"{runs[0]['examples_forwarded']:,}",
            f"{spread([run['seconds'] for run in runs], 0)} s",
            str(len(runs)),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"))
