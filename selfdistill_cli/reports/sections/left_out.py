"""The end of a report: runs that are in no study, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from selfdistill_cli.reports.content import Section, Table
from selfdistill_cli.reports.roles import Served
from selfdistill_cli.reports.runs import Run
from selfdistill_cli.reports.studies import Gathered
from selfdistill_cli.reports.variants import Study


def sections(gathered: Gathered, runs: Sequence[Run]) -> list[Section]:
    """Unfinished and damaged runs, runs that stand alone, runs made for others, runs that were found twice."""
    unfinished = [run for run in runs if not run.finished]
    found = [
        ("Not finished", "", "not-finished", ["run", "state", "reason"], [_unfinished(run) for run in unfinished]),
        (
            "Read without",
            "Files that could not be read; the scores of these runs count without them.",
            "read-without",
            ["run", "without"],
            [[place(run.path), why] for run in runs for why in run.left_out.values()],
        ),
        (
            "Alone",
            "One run each, beside which there is nothing to compare it with. `sdreport <its folder>` shows it by itself.",
            "alone",
            ["what", "method", "score", "run"],
            [_alone(study) for study in gathered.alone],
        ),
        (
            "Made for other runs",
            "Teachers, earlier generations and rounds: a part of another run's training, and nobody's result.",
            "made-for-others",
            ["run", "method", "as", "for"],
            [_served(one) for one in gathered.served],
        ),
        (
            "Found twice",
            "Runs with the settings and seed of another one, which counts.",
            "found-twice",
            ["run", "score", "counts instead", "its score"],
            [[str(other.path), _score(other), str(kept.path), _score(kept)] for kept, other in gathered.duplicates],
        ),
    ]
    return [
        Section(title, words, [Table(name, "", header, rows)]) for title, words, name, header, rows in found if rows
    ]


def _unfinished(run: Run) -> list[str]:
    return [place(run.path), run.status, run.reason or "–"]


def _alone(study: Study) -> list[str]:
    (group,) = study.groups
    return [study.name, group.variant, f"{study.metric} {_score(group.first)}", place(group.first.path)]


def _served(one: Served) -> list[str]:
    users = sorted({run.path.name for run in one.by})
    more = f" and {len(users) - 3} more" if len(users) > 3 else ""
    return [place(one.run.path), one.run.method, one.role, ", ".join(users[:3]) + more]


def place(path: Path) -> str:
    """The last parts of a run's path: task, model, method, key."""
    return "/".join(path.parts[-4:])


def _score(run: Run) -> str:
    return f"{run.results['score']:.4f}"
