"""A running sweep in the terminal: how far, with which score; and that it says the same as the runs' files."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports import watch
from selfdistill_cli.reports.runs import find_runs
from selfdistill_cli.sweeps.records import JobRecords
from tests.helpers.made_runs import make_run

pytestmark = pytest.mark.thorough


def test_watching_tells_what_changed(tmp_path: Path) -> None:
    for method in ("vanilla", "dynsdpb"):
        make_run(tmp_path, f"method={method}")
    (make_run(tmp_path, "seed=1") / "results.json").write_text("")
    runs = find_runs([tmp_path])
    into = io.StringIO()
    watch.watch(lambda: runs, Console(file=into), rounds=1)
    assert into.getvalue().startswith("3 runs: 2 finished, 1 damaged")
    screen = Console(file=io.StringIO(), record=True, force_terminal=True, width=120)
    screen.print(watch.view(runs))
    shown = screen.export_text()
    for run in (run for run in runs if run.finished):
        assert re.search(rf"{run.method} +{run.results['score']:.4f} +1", shown)


def test_watching_says_how_far_a_run_is_and_that_a_killed_one_is_interrupted(tmp_path: Path) -> None:
    for words, passes in (
        (["method=kd", "method.name=a_plugin", "schedule.epochs=3"], 1.5),
        (["method=vanilla", "schedule.max_steps=40"], 2),
    ):
        run = make_run(tmp_path, *words, passes=passes)  # its last record is of step 30, the end of epoch 3
        (run / "results.json").unlink()
    runs = find_runs([tmp_path])
    screen = Console(file=io.StringIO(), record=True, force_terminal=True, width=160)
    screen.print(watch.view(runs))
    shown = screen.export_text()
    assert "2 runs: 2 interrupted" in shown
    assert re.search(r"a_plugin .*epoch 3\.00 of 4\.5", shown)
    assert re.search(r"vanilla .*step 30 of 80", shown)
    for width in (50, 80):
        broken = [dataclasses.replace(run, reason="a value [red] of [/]") for run in runs]
        screen = Console(file=io.StringIO(), record=True, force_terminal=True, width=width)
        screen.print(watch.view(broken, width))
        lines = screen.export_text().splitlines()
        assert any(re.match(r"\S*\s*vanilla .*step 30 of 80 +accuracy 0\.\d{4}(\s|$)", line) for line in lines)
        assert "interrupted: a value [red] of [/]" in " ".join(" ".join(lines).split())
    running = [dataclasses.replace(run, status="running") for run in runs]
    assert "at step 30 of 80" in watch.summary(running)


def test_watching_tells_of_each_sweep_how_its_jobs_stand(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "2026-01-02_10-00-00"
    records = JobRecords(sweep)
    for number, status in enumerate(("finished", "finished earlier", "finished")):
        records.write(number, [f"seed={number}"], {"status": status, "score": 0.5})
    for number in (3, 4):
        records.failed(number, [], UserError("no such data"), 1.0)
    (sweep / "plan.json").write_text(json.dumps({"total": 9, "varied": ["seed"]}))
    reader = watch.Reader([tmp_path])
    assert reader.sweeps() == [
        "sweep 2026-01-02_10-00-00: 9 jobs: 2 finished, 1 finished earlier, 2 failed, 4 to come",
        "  failed: no such data (jobs 4, 5)",
    ]
    into = io.StringIO()
    watch.watch(reader, Console(file=into), rounds=1, sweeps=reader.sweeps)
    assert into.getvalue().splitlines() == ["0 runs: none yet", *reader.sweeps()]
    screen = Console(file=io.StringIO(), record=True, force_terminal=True, width=120)
    watch.watch(reader, screen, rounds=1, sweeps=reader.sweeps)
    assert "1 finished earlier, 2 failed" in screen.export_text()
    (sweep / "plan.json").unlink()  # a sweeper that does not know how many there will be
    assert reader.sweeps()[0].endswith(": 5 jobs so far: 2 finished, 1 finished earlier, 2 failed")
    (sweep / "jobs" / "1.json").write_text("")
    assert "1.json is damaged" in reader.sweeps()[0]


def test_a_run_that_is_done_anew_is_seen_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reader = watch.Reader([tmp_path])
    (before,) = reader()
    assert reader()[0] is before  # what is finished is read once
    results = json.loads((run / "results.json").read_text()) | {"score": 0.125}
    (run / "results.json").write_text(json.dumps(results))
    os.utime(run / "results.json", ns=(1, 1))
    assert reader()[0].results["score"] == 0.125
    (run / "results.json").unlink()
    assert reader()[0].status == "interrupted"
