"""Runs as one pandas DataFrame, for analyses of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfdistill_cli.reports.intact import NUMBER
from selfdistill_cli.reports.runs import Run, find_runs

if TYPE_CHECKING:
    import pandas as pd


def frame(folders: Sequence[Path]) -> pd.DataFrame:
    """A row a run, in whatever state, in the order of their paths (docs/reports.md names the columns)."""
    import pandas as pd

    return pd.DataFrame([_row(run) for run in find_runs(folders)])


def _row(run: Run) -> dict[str, Any]:
    final = (run.results.get("metrics") or {}).get("final") or {}
    return {
        "key": run.path.name,
        "path": str(run.path),
        "status": run.status,
        "reason": run.reason or None,
        "seed": run.seed if run.settings else None,
        **run.settings,
        "metric": run.results.get("metric"),
        "score": run.results.get("score"),
        **{f"score.{name}": value for name, value in final.items()},
        **{f"score.{task}.{found['metric']}": found["score"] for task, found in run.other_tasks.items()},
        **{name: value for name, value in run.results.items() if isinstance(value, NUMBER) and name not in ("score", "seed", "processes")},
    }  # fmt: skip
