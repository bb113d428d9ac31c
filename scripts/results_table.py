"""Print a Markdown table of finished runs: mean ± standard deviation over seeds.

python scripts/results_table.py outputs

Only runs that differ in nothing but their seed are averaged; what sets others apart stands beside the method.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

Settings = dict[str, Any]


def flat_settings(run: Path) -> Settings:
    """The scientific settings of a run but its seed, one dotted key each."""
    cfg = yaml.safe_load((run / "config.yaml").read_text())

    def flatten(node: Any, prefix: str) -> Settings:
        if not isinstance(node, dict):
            return {prefix: node}
        return {key: value for name, child in node.items() for key, value in flatten(child, f"{prefix}.{name}").items()}

    return {k: v for group in ("model", "task", "method", "schedule") for k, v in flatten(cfg[group], group).items()}


def spread(values: list[float], digits: int) -> str:
    """`0.8123 ± 0.0045`; a single value alone."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def teacher_cost(run: Settings) -> str:
    """` + 4,980` if a run of ours made the teacher."""
    forwarded = run.get("teacher", {}).get("examples_forwarded")
    return f" + {forwarded:,}" if forwarded else ""


def differences(settings: Settings, others: list[Settings]) -> str:
    """The settings of a group that others of the same task, model and method do not share."""
    differing = [key for key in settings if any(other.get(key) != settings[key] for other in others)]
    return f" ({', '.join(f'{key}={settings[key]}' for key in differing)})" if differing else ""


def main(outputs: Path) -> None:
    """Print a row for every group of runs below `outputs`."""
    groups: dict[str, list[Settings]] = defaultdict(list)
    settings_of: dict[str, Settings] = {}
    for path in sorted(outputs.glob("*/*/*/*/results.json")):
        settings = flat_settings(path.parent)
        key = json.dumps(settings)
        settings_of[key] = settings
        groups[key].append(json.loads(path.read_text()))

    def place(run: Settings) -> tuple[Any, ...]:
        return run["task"], run["train_examples"], run["model"], run["method"]

    print("| task (training examples) | method | metric | score | examples forwarded | seconds | seeds |")
    print("|---|---|---|---|---|---|---|")
    for key, runs in groups.items():
        first = runs[0]
        neighbours = [settings_of[k] for k, other in groups.items() if place(other[0]) == place(first)]
        cells = [
            f"{first['task']} ({first['train_examples']:,})",
            first["method"] + differences(settings_of[key], neighbours),
            first["metric"],
            spread([run["score"] for run in runs], 4),
            f"{first['examples_forwarded']:,}" + teacher_cost(first),
            spread([run["seconds"] for run in runs], 0),
            ", ".join(str(run["seed"]) for run in sorted(runs, key=lambda run: run["seed"])),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"))
