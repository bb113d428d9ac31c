"""Which runs a report stands on, and which could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from selfdistill_cli.reports.content import Section, Table
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.variants import Study


def section(study: Study, runs: Sequence[Run]) -> Section:
    """Counts, and every run that did not finish with the reason."""
    counts = Counter(run.status for run in runs)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("finished", "running", "unfinished", "damaged") if counts[status]
    )
    words = f"{len(runs)} runs: {told or 'none'}. Only finished ones count below."
    if any(g.first.results.get("synthetic") for g in study.groups):
        words += " Tasks marked [synthetic] are generated: their scores compare with nothing but themselves."
    precisions = sorted({str(run.results.get("precision", "fp32")) for run in runs if run.finished})
    if len(precisions) > 1:
        words += f" Runs were computed in different precisions ({', '.join(precisions)}), which is no part of their settings."
    left = [[str(_place(run)), run.status, run.problem or "–"] for run in runs if not run.finished]
    header = ["run", "state", "what is known"]
    return Section(
        "Runs", words, [Table("not-finished", "Runs that are not in the tables.", header, left)] if left else []
    )


def _place(run: Run) -> str:
    return "/".join(run.path.parts[-4:])
