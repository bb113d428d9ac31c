"""Fixtures that many tests share, and the summary of the crash tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: two tests run at a time

from tests.helpers.processes import Finished, Sdrun, run_command, user_environment


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """`user_environment` of this test's folder."""
    return user_environment(tmp_path)


@pytest.fixture
def sdrun(environment: dict[str, str], tmp_path: Path) -> Sdrun:
    """`sdrun` in this test's folder; keywords are environment variables."""

    def call(*arguments: str, **variables: str) -> Finished:
        return run_command(tmp_path, {**environment, **variables}, *arguments)

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders that say how long their tests take; the longest files first, so that both workers end together."""
    here = Path(__file__).parent
    for item in items:
        if here / "end_to_end" in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)
        if here / "crashes" in item.path.parents:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not {here / "end_to_end", here / "crashes"} & {*item.path.parents})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the crash tests did, counted over all of them."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    properties = [dict(report.user_properties) for report in reports]
    crashes = [found for found in properties if "killed at" in found]
    if crashes:
        points = [point for found in crashes for point in found["killed at"]]
        runs = sum(found.get("runs", 0) for found in crashes)
        mismatches = sum(report.failed for report, found in zip(reports, properties, strict=True) if found in crashes)
        terminalreporter.write_line(
            f"crashes: {len(points)} kills at {len(set(points))} kinds of points, each gone on from; "
            f"{runs} runs compared with undisturbed ones, {mismatches} mismatches"
        )
