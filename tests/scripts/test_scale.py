"""The measurement of a million rows, with a hundred."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.processes import REPOSITORY


@pytest.mark.slow
def test_rows_of_every_start_are_measured() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/bench_scale.py", "--rows", "100", "--markdown"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert [row[:2] for row in cells[2:]] == [["100", start] for start in ("first", "second", "third")]
    for _, _, seconds, memory, step in cells[2:]:
        assert 0.5 < float(seconds) < 300
        assert float(memory) > 100
        assert float(step) > 0
