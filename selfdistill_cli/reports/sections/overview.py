"""Which runs a report stands on, and which could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from selfdistill_cli.reports.content import Section, Table
from selfdistill_cli.reports.runs import STATUSES, Run
from selfdistill_cli.reports.studies import Gathered


def section(gathered: Gathered, runs: Sequence[Run]) -> Section:
    """Counts, every run that did not finish with the reason, and runs that were found twice."""
    counts = Counter(run.status for run in runs)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    words = f"{len(runs)} runs: {told or 'none'}. Only finished ones count below."
    if any(g.first.results.get("synthetic") for study in gathered.studies for g in study.groups):
        words += " Tasks marked [synthetic] are generated: their scores compare with nothing but themselves."
    precisions = sorted({str(run.results.get("precision", "fp32")) for run in runs if run.finished})
    if len(precisions) > 1:
        words += f" Runs were computed in different precisions ({', '.join(precisions)}), which is no part of their settings."
    if gathered.duplicates:
        words += f" Finished runs with the settings and seed of another: {len(gathered.duplicates)}; the first of each counts."
    tables = []
    left_out = [[_place(run), run.status, run.reason or "–"] for run in runs if not run.finished]
    if left_out:
        tables.append(Table("not-finished", "Runs that are not in the tables.", ["run", "state", "reason"], left_out))
    incomplete = [[_place(run), why] for run in runs for why in run.left_out.values()]
    if incomplete:
        caption = "Files that could not be read; the scores of these runs count without them."
        tables.append(Table("read-without", caption, ["run", "without"], incomplete))
    twice = [[str(other.path), _score(other), str(kept.path), _score(kept)] for kept, other in gathered.duplicates]
    if twice:
        caption = "Runs with the same settings and seed as another, which are not in the tables."
        tables.append(Table("found-twice", caption, ["run", "score", "counts instead", "its score"], twice))
    return Section("Runs", words, tables)


def _place(run: Run) -> str:
    return "/".join(run.path.parts[-4:])


def _score(run: Run) -> str:
    return f"{run.results['score']:.4f}"
