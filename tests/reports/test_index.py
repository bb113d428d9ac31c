"""The index: everything that is a run is found once, what changed is read again, what is broken is told."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports import index
from selfdistill_cli.reports.command import chosen
from selfdistill_cli.reports.index import find_runs
from selfdistill_cli.reports.runs import Run, read_run
from selfdistill_cli.reports.variants import study
from tests.helpers.made_runs import make_run


def test_an_unchanged_run_is_not_read_again_and_a_changed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(tmp_path, f"seed={seed}") for seed in range(3)]
    first = find_runs([tmp_path])
    read: list[Path] = []

    def reading(path: Path) -> Run:
        read.append(path)
        return read_run(path)

    monkeypatch.setattr(index, "read_run", reading)
    assert find_runs([tmp_path]) == first
    assert read == []
    results = json.loads((runs[1] / "results.json").read_text())
    (runs[1] / "results.json").write_text(json.dumps(results | {"score": 0.1234567}))
    again = find_runs([tmp_path])
    assert read == [runs[1]]
    assert {run.results["score"] for run in again} >= {0.1234567}


def test_damaged_and_unfinished_runs_are_told_and_harm_nothing(tmp_path: Path) -> None:
    good, *others = (make_run(tmp_path, f"seed={seed}") for seed in range(6))
    no_json, no_config, no_predictions, unfinished, torn = others
    (no_json / "results.json").write_text('{"score": 0.5')
    (no_config / "config.yaml").write_text("model: [")
    (no_predictions / "predictions.parquet").unlink()
    (unfinished / "results.json").unlink()
    (unfinished / "train.log").write_text("2026-01-01 10:00:00,0 ERROR ended by UserError: out of luck\n")
    (torn / "results.json").unlink()
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    states = {run.path: (run.status, run.problem) for run in find_runs([tmp_path])}
    assert states[good] == ("finished", "")
    assert {states[path][0] for path in (no_json, no_config, no_predictions)} == {"damaged"}
    assert "predictions.parquet is missing" in states[no_predictions][1]
    assert states[unfinished] == ("unfinished", "ended by UserError: out of luck")
    assert states[torn][0] == "unfinished"
    assert len(study(find_runs([tmp_path])).groups[0].runs) == 1


def test_a_broken_index_is_made_anew(tmp_path: Path) -> None:
    make_run(tmp_path)
    find_runs([tmp_path])
    (tmp_path / ".cache" / "report_index.sqlite").write_text("no database")
    assert len(find_runs([tmp_path])) == 1


@pytest.mark.slow
def test_a_thousand_runs_take_less_than_ten_seconds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    for number in range(1000):
        shutil.copytree(run, tmp_path / "many" / "synth_entailment" / "minilm" / "dynsdpb" / f"{number:010d}")
    for _ in ("without an index", "with it"):
        began = time.monotonic()
        assert len(find_runs([tmp_path / "many"])) == 1000
        assert time.monotonic() - began < 10


def test_runs_of_different_settings_are_never_one_group_and_say_how_they_differ(tmp_path: Path) -> None:
    for words in (["method.tau=1"], ["method.tau=2"], ["method.tau=2", "schedule.lr=1e-4"], ["method.tau=2", "seed=1"]):
        make_run(tmp_path, "method=dynsdpb", *words)
    made = study(find_runs([tmp_path]))
    assert made.variants == [
        "dynsdpb (tau=1.0, lr=5e-05)",
        "dynsdpb (tau=2.0, lr=5e-05)",
        "dynsdpb (tau=2.0, lr=0.0001)",
    ]
    assert sorted(len(group.runs) for group in made.groups) == [1, 1, 2]


def test_conditions_choose_runs_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    for method in ("vanilla", "static_sd", "dynsdpb"):
        make_run(tmp_path, f"method={method}")
    runs = find_runs([tmp_path])
    assert {run.method for run in chosen(runs, ["method.name=vanilla,dynsdpb"])} == {"vanilla", "dynsdpb"}
    assert {run.method for run in chosen(runs, ["method.tau_rule=uncertainty"])} == {"vanilla", "static_sd", "dynsdpb"}
    with pytest.raises(UserError, match=r"no run has a setting 'method.tua'. Did you mean 'method.tau'"):
        chosen(runs, ["method.tua=1"])
    with pytest.raises(UserError, match=r"no run has method.name=dcs. There are dynsdpb, static_sd, vanilla"):
        chosen(runs, ["method.name=dcs"])
    with pytest.raises(UserError, match="there is no folder"):
        find_runs([tmp_path / "nowhere"])
