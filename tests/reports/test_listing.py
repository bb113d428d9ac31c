"""Runs in a list and in a DataFrame: everything is there, and it fits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from selfdistill_cli.reports import load_runs
from selfdistill_cli.reports.command import report
from selfdistill_cli.reports.listing import ago, print_list, short_keys, what_they_are
from selfdistill_cli.reports.runs import find_runs
from tests.helpers.made_runs import make_run
from tests.helpers.processes import REPOSITORY
from tests.helpers.screens import TERMINALS, shown

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, one of them in a sweep of τ; a run that was killed and one that is damaged."""
    outputs = tmp_path_factory.mktemp("outputs")
    make_run(outputs, "method=vanilla")
    for tau in (1, 2):
        make_run(outputs, "method=dynsdpb", f"method.tau={tau}")
    (make_run(outputs, "method=vanilla", "seed=1") / "results.json").unlink()
    (make_run(outputs, "method=vanilla", "seed=2") / "results.json").write_text("")
    for place, run in enumerate(sorted(outputs.glob("*/*/*/*"))):
        for file in run.iterdir():
            os.utime(file, (1e9 + place, 1e9 + place))
    return outputs


def test_a_list_has_a_line_a_run_with_key_state_score_and_what_it_is(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(["--list", str(outputs)])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "5 runs: 3 finished, 1 interrupted, 1 damaged; all: synth_entailment, minilm"
    for run in find_runs([outputs]):
        (line,) = (line for line in said[1:] if line.startswith(run.path.name))
        assert run.status in line
        assert f"{run.method} · " in line
        assert (f"{run.results['score']:.4f}" if run.finished else "–") in line
        assert f"tau={run.settings.get('method.tau', '')}".removesuffix(".0") in line or run.method == "vanilla"
    assert said[-1].startswith("damaged: results.json is empty (")


@pytest.mark.parametrize("width", TERMINALS)
def test_a_list_fits_the_terminal(width: int, outputs: Path) -> None:
    lines = shown(lambda console: print_list(find_runs([outputs]), console), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    keys = [run.path.name for run in find_runs([outputs])]
    rows = [
        line
        for line in lines
        if len(line.split(" ")[0]) >= 5 and any(key.startswith(line.split(" ")[0]) for key in keys)
    ]
    assert len(rows) == 5  # a line a run, by a key that --diff understands
    assert all("dynsdpb" in line or "vanilla" in line for line in rows)


def test_what_a_run_is_says_what_sets_it_apart_and_nothing_that_all_share(outputs: Path) -> None:
    runs = find_runs([outputs])
    told, shared = what_they_are(runs)
    assert shared == ["synth_entailment", "minilm"]
    assert sorted(told)[:2] == ["dynsdpb · tau=1 · seed 0", "dynsdpb · tau=2 · seed 0"]
    (alone,), _ = what_they_are(runs[:1])
    assert alone == "dynsdpb · seed 0 · synth_entailment · minilm"


@pytest.mark.parametrize(("keys", "short"), [
    (["0123456789"], ["01234"]), (["aaaaaaa111", "aaaaaaa222"], ["aaaaaaa1", "aaaaaaa2"]), (["same", "same"], ["same", "same"])
])  # fmt: skip
def test_keys_are_shortened_to_what_tells_them_apart(keys: list[str], short: list[str]) -> None:
    assert short_keys(keys) == short


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "0 s"), (-5, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (2 * 86400, "2 d"), (1e7, "115 d")
])  # fmt: skip
def test_ages_are_said_in_the_largest_unit_that_there_are_two_of(seconds: float, words: str) -> None:
    assert ago(seconds) == words


def test_a_data_frame_has_a_row_a_run_with_settings_and_scores(outputs: Path) -> None:
    table = load_runs(outputs)
    runs = {run.path.name: run for run in find_runs([outputs])}
    assert list(table["key"]) == [run.path.name for run in find_runs([outputs])]
    for _, row in table.iterrows():
        run = runs[row["key"]]
        assert row["status"] == run.status
        assert row["path"] == str(run.path)
        if run.finished:
            assert row["score"] == row["score.accuracy"] == run.results["score"]
            assert row["examples_forwarded"] == 300
    of_tau = table.groupby("method.tau")["score"].mean()  # as a user would
    assert sorted(of_tau.index) == [1.0, 2.0]
    assert table.loc[table["method.name"] == "vanilla", "method.tau"].isna().all()


def test_importing_the_reports_loads_nothing_heavy() -> None:
    program = (
        "import sys; from selfdistill_cli.reports import load_runs\n"
        "print(sorted({'pandas', 'numpy', 'torch', 'matplotlib', 'pyarrow', 'omegaconf'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert told.stdout.strip() == "[]"
