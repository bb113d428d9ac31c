"""Finding and reading runs: everything that is a run is found, what is broken is told, and nothing is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.command import chosen
from selfdistill_cli.reports.runs import find_runs, read_run
from selfdistill_cli.system.lease import held
from tests.helpers.made_runs import make_run, study_of

pytestmark = pytest.mark.thorough


def unfinished(outputs: Path, *overrides: str) -> Path:
    """A run that was begun and has no results."""
    run = make_run(outputs, *overrides)
    (run / "results.json").unlink()
    return run


def test_nothing_is_written_where_runs_lie(tmp_path: Path) -> None:
    make_run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert len(find_runs([tmp_path])) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    make_run(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert [run.status for run in find_runs([tmp_path])] == ["finished"]
    finally:
        tmp_path.chmod(0o755)


def test_damaged_and_interrupted_runs_are_told_and_harm_nothing(tmp_path: Path) -> None:
    good, *others = (make_run(tmp_path, f"seed={seed}") for seed in range(6))
    no_json, no_config, no_predictions, interrupted, torn = others
    (no_json / "results.json").write_text('{"score": 0.5')
    (no_config / "config.yaml").write_text("model: [")
    (no_predictions / "predictions.parquet").unlink()
    (interrupted / "results.json").unlink()
    (interrupted / "train.log").write_text("2026-01-01 10:00:00,0 ERROR ended by UserError: out of luck\n")
    (torn / "results.json").unlink()
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    states = {run.path: (run.status, run.reason) for run in find_runs([tmp_path])}
    assert states[good] == ("finished", "")
    assert {states[path][0] for path in (no_json, no_config, no_predictions)} == {"damaged"}
    assert "predictions.parquet is missing" in states[no_predictions][1]
    assert states[interrupted] == ("interrupted", "ended by UserError: out of luck")
    assert states[torn][0] == "interrupted"
    assert len(study_of(tmp_path).groups[0].runs) == 1


def test_a_run_is_running_while_its_process_lives_and_interrupted_once_it_was_killed(tmp_path: Path) -> None:
    run = unfinished(tmp_path)
    with held(run / "lock"):
        assert read_run(run).status == "running"
    program = (
        "import os, sys; from pathlib import Path; from selfdistill_cli.system.lease import held\n"
        "with held(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(run / "lock")], check=False)
    assert (run / "lock").is_file()
    assert read_run(run).status == "interrupted"


def test_how_far_a_run_came_is_what_its_last_record_says(tmp_path: Path) -> None:
    run = make_run(tmp_path, rows=[{"kind": "train", "step": 31, "epoch": 3.1, "loss": 1.0}])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    assert (read_run(run).step, read_run(run).epoch) == (31, 3.1)  # steps are thinned out for figures, but not for this


@pytest.mark.parametrize(("schedule", "passes", "steps", "epochs"), [
    ("schedule.epochs=3", None, None, 3.0),
    ("schedule.epochs=3", 2, None, 6.0),
    ("schedule.max_steps=41", 1, 41, 0.0),
    ("schedule.max_steps=41", 1.5, 62, 0.0),  # steps are whole: 61.5 is one more begun
])  # fmt: skip
def test_what_was_asked_for_counts_passes(
    schedule: str, passes: float | None, steps: int | None, epochs: float, tmp_path: Path
) -> None:
    run = read_run(make_run(tmp_path, "method=kd", schedule, passes=passes))
    assert (run.steps_asked, run.epochs_asked) == (steps, epochs)


@pytest.mark.slow
def test_a_thousand_runs_take_less_than_ten_seconds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    for number in range(1000):
        shutil.copytree(run, tmp_path / "many" / "synth_entailment" / "minilm" / "dynsdpb" / f"{number:010d}")
    began = time.monotonic()
    assert len(find_runs([tmp_path / "many"])) == 1000
    assert time.monotonic() - began < 10


def test_a_model_may_be_called_as_a_folder_of_a_run_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made")
    for name in ("model", "checkpoints"):
        shutil.copytree(run, tmp_path / "outputs" / "rte" / name / "vanilla" / run.name)
        shutil.copytree(run, tmp_path / "outputs" / "rte" / "minilm" / "vanilla" / f"{name}" / run.name)
    (run / "model").mkdir()
    shutil.copy(run / "config.yaml", run / "model" / "config.yaml")  # what lies in a run is none
    assert len(find_runs([tmp_path / "outputs"])) == 4
    assert [found.path for found in find_runs([tmp_path / "made"])] == [run]


def test_conditions_choose_runs_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    for method in ("vanilla", "static_sd", "dynsdpb"):
        make_run(tmp_path, f"method={method}")
    make_run(tmp_path, "method=vanilla", "seed=1", processes=2)
    runs = find_runs([tmp_path])
    assert {run.method for run in chosen(runs, ["method.name=vanilla,dynsdpb"])} == {"vanilla", "dynsdpb"}
    assert {run.method for run in chosen(runs, ["method.tau_rule=uncertainty"])} == {"vanilla", "static_sd", "dynsdpb"}
    assert [run.seed for run in chosen(runs, ["processes=2"])] == [1]
    for alike in ("method.tau=3", "method.tau=3.0", "schedule.lr=5e-5", "schedule.lr=0.00005", "task.strict=false"):
        assert len(chosen(runs, [alike])) == 4
    with pytest.raises(UserError, match=r"no run has a setting 'method.tua'. Did you mean 'method.tau'"):
        chosen(runs, ["method.tua=1"])
    with pytest.raises(UserError, match=r"no run has method.name=dcs. There are dynsdpb, static_sd, vanilla"):
        chosen(runs, ["method.name=dcs"])
    with pytest.raises(UserError, match="there is no folder"):
        find_runs([tmp_path / "nowhere"])
