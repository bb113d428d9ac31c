"""`sdrun --plan`: the command is understood and checked as for a run, nothing is run, nothing is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from selfdistill_cli.config.schema import CONF_DIR
from tests.helpers.processes import Sdrun
from tests.helpers.runs import SMALL, table

SWEEP = ("-m", "method=vanilla,kd", "seed=0,1", "method.teacher.epochs=1", *SMALL)


def files(folder: Path) -> set[Path]:
    """Everything below a folder."""
    return set(folder.rglob("*"))


def test_a_sweep_is_planned_from_short_runs_then_from_its_own(sdrun: Sdrun, tmp_path: Path) -> None:
    before = files(tmp_path)
    plan = sdrun("--plan", *SWEEP)
    assert plan.code == 0, plan.err
    assert "Plan: 4 runs: to do; 2 teachers: to do. Nothing was run." in plan.out
    assert "16 steps timed now (6 runs)" in plan.out
    assert len(re.findall("timing a few steps of", plan.err)) == 2  # vanilla, which teachers are as well, and kd
    assert {path for path in files(tmp_path) - before if "huggingface" not in path.parts} == set()
    keys = set(re.findall(r"\b[0-9a-f]{10}\b", plan.out))

    assert sdrun(*SWEEP).code == 0
    outputs = tmp_path / "outputs"
    made = {path.parent.name for path in outputs.glob("*/*/*/*/results.json")}
    assert made == keys
    forwarded = sum(json.loads(path.read_text())["examples_forwarded"] for path in outputs.glob("*/*/*/*/results.json"))
    assert f"{forwarded:,} examples in {4 * 10 + 2 * 5} steps" in plan.out

    before = files(tmp_path)
    again = sdrun("--plan", *SWEEP)
    assert "4 runs: finished" in again.out
    assert "Nothing is left to do" in again.out
    other = sdrun("--plan", "--detect=30", *(word.replace("seed=0,1", "seed=0,1,2") for word in SWEEP))
    assert "6 runs: 4 finished, 2 to do; 1 teacher: to do" in other.out
    assert "finished runs of the kind" in other.out
    assert "timing" not in other.err
    assert "To show a difference of 30 points in accuracy" in other.out
    assert files(tmp_path) == before


def test_a_mistake_in_any_cell_is_found(sdrun: Sdrun) -> None:
    wrong = sdrun("--plan", "-m", "method=vanilla,dynsdpb", "method.tau=1,0", *SMALL)
    assert wrong.code == 1
    assert "method.tau=0.0: must be greater than 0." in wrong.err
    assert "job 3 of 3" in wrong.err
    alone = sdrun("--plan", "method=vanilla", "task.train_examples=10000", *SMALL)
    assert alone.code == 1
    assert "the training split has 40 examples. task.train_examples=null takes them all" in alone.err


def test_of_a_sweep_over_a_large_file_nothing_is_left_in_the_outputs(sdrun: Sdrun, tmp_path: Path) -> None:
    rows = "".join(f"{'good' if number % 2 else 'bad'} {'x' * 5000},{number % 2}\n" for number in range(240))
    (tmp_path / "large.csv").write_text(f"body,stars\n{rows}")  # more than a MiB, so that its digest is kept
    own = ("task=custom", "task.path=large.csv", "task.text=body", "task.label=stars", "task.train_examples=40")
    small = [word for word in SMALL if not word.startswith("task.")]
    plan = sdrun("--plan", "-m", "method=vanilla", "seed=0,1", *own, *small)
    assert plan.code == 0, plan.err
    assert "2 runs: to do" in plan.out
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_search_is_planned_as_it_goes(sdrun: Sdrun, tmp_path: Path) -> None:
    words = ("+experiment=optuna_tau_alpha", "method=dynsdpb", "hydra.sweeper.n_trials=3", *SMALL)
    plan = sdrun("--plan", *words)
    assert plan.code == 0, plan.err
    assert "3 runs: to do" in plan.out
    assert sdrun(*words).code == 0
    assert {job["key"] for job in table(tmp_path / "outputs")} == set(re.findall(r"\b[0-9a-f]{10}\b", plan.out))
    assert "3 runs: finished" in sdrun("--plan", *words).out


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["compare", "low_resource", "tuned"])
def test_named_experiments_can_be_planned(experiment: str, sdrun: Sdrun) -> None:
    assert (CONF_DIR / "experiment" / f"{experiment}.yaml").is_file()
    words = ("model=tiny_bert", "task=synth_entailment", "task.generator.train_examples=5000", "tracking=none")
    plan = sdrun("--plan", f"+experiment={experiment}", "+size=one_step", *words)
    assert plan.code == 0, plan.err
    assert "Left to do: about" in plan.out
    assert "failed" not in plan.out


def test_a_single_run_is_planned_too(sdrun: Sdrun, tmp_path: Path) -> None:
    plan = sdrun("--plan", "method=dynsdpb", "hydra/launcher=local", *SMALL)
    assert plan.code == 0, plan.err
    assert "1 run: to do" in plan.out
    held_out = sdrun("--plan", "method=dcs", "task.selection=held_out", *SMALL)
    assert held_out.code == 0, held_out.err
    assert not (tmp_path / "outputs").exists()
