"""What real runs leave for reports: diagnostics, label noise, scores on other tasks, and a report of it all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.helpers.processes import SDEVALUATE, SDREPORT, Sdrun, run_command
from tests.helpers.runs import SMALL, only_run, results, rows, without_times

DIAGNOSTICS = "runtime.diagnostics=[gradients,examples]"


@pytest.mark.slow
def test_diagnostics_change_nothing_and_leave_their_rows(sdrun: Sdrun, tmp_path: Path) -> None:
    words = ("method=dynsdpb", *SMALL)
    assert sdrun(*words, SDRUN_OUTPUTS=str(tmp_path / "plain")).code == 0
    assert sdrun(*words, DIAGNOSTICS, SDRUN_OUTPUTS=str(tmp_path / "looked")).code == 0
    plain, looked = only_run(tmp_path / "plain"), only_run(tmp_path / "looked")
    assert (plain / "model" / "model.safetensors").read_bytes() == (looked / "model" / "model.safetensors").read_bytes()
    assert without_times(results(plain)) == without_times(results(looked))
    for kind in ("train", "eval"):
        assert [*map(without_times, rows(plain, kind))] == [*map(without_times, rows(looked, kind))]
    asked_later = sdrun(*words, DIAGNOSTICS, SDRUN_OUTPUTS=str(tmp_path / "plain"))
    assert "It was run without runtime.diagnostics=gradients,examples; rerun=true adds them" in asked_later.out
    gradients = rows(looked, "gradients")
    assert [row["step"] for row in gradients] == list(range(1, 11))
    total = sum(value**2 for name, value in gradients[0].items() if name.startswith("norm/")) ** 0.5
    assert total == pytest.approx(rows(looked, "train")[0]["grad_norm"], rel=1e-4)
    singles = rows(looked, "examples")
    assert [row["step"] for row in singles] == list(range(2, 11))  # the first step has no previous batch
    for row, train in zip(singles, rows(looked, "train")[1:], strict=True):
        assert sum(row["tau"]) / len(row["tau"]) == pytest.approx(train["tau/mean"], abs=1e-4)
        assert len(row["examples"]) == len(set(row["examples"])) == len(row["alpha"])


def test_unknown_and_unfit_diagnostics_are_refused(sdrun: Sdrun) -> None:
    unknown = sdrun(*SMALL, "runtime.diagnostics=gradient")
    assert unknown.code == 1
    assert "allowed are gradients, examples, maps. Did you mean 'gradients'?" in unknown.err
    unfit = sdrun(*SMALL, "runtime.diagnostics=maps")
    assert unfit.code == 1
    assert (
        "runtime.diagnostics=maps compares vocabulary maps, which only generation and multiple choice have" in unfit.err
    )


def test_label_noise_and_weights_are_recorded_for_each_example(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("method=dcs", "method.teacher.epochs=1", *SMALL, "task.label_noise=0.25")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path / "outputs", "dcs")
    table = parquet.read_table(run / "examples.parquet").to_pydict()
    assert len(table["index"]) == 40
    changed = [a != b for a, b in zip(table["label"], table["clean_label"], strict=True)]
    assert sum(changed) == 10
    assert sum(table["weights"]) == pytest.approx(40)
    refused = sdrun(*SMALL, "task=synth_similarity", "task.label_noise=0.1")
    assert "only classes can be replaced" in refused.err


def pairs(folder: Path, labels: list[str]) -> None:
    """A validation split of premises and hypotheses with these labels, and no training split."""
    folder.mkdir(parents=True)
    n = len(labels)
    texts = [f"A person {word} in the park." for word in ("runs", "sits", "sleeps")] * n
    parquet.write_table(
        pa.table({"premise": texts[:n], "hypothesis": texts[1 : n + 1], "label": labels}), folder / "validation.parquet"
    )


def test_a_run_is_scored_on_other_tasks_once_and_without_training(
    sdrun: Sdrun, environment: dict[str, str], tmp_path: Path
) -> None:
    pairs(tmp_path / "data" / "snli", ["entailment", "neutral", "contradiction", "neutral"])
    pairs(tmp_path / "data" / "scitail", ["entails", "neutral"] * 3)
    words = ("method=vanilla", *SMALL)
    ended = sdrun(*words, "eval_tasks=[snli]")
    assert ended.code == 0, ended.err
    assert "on snli" in ended.out
    run = only_run(tmp_path / "outputs")
    weights = (run / "model" / "model.safetensors").stat().st_mtime_ns
    again = sdrun(*words, "eval_tasks=[snli,scitail]")
    assert again.code == 0, again.err
    assert "finished earlier" in again.out
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == weights
    for name, count, gold in (("snli", 4, [0, 1, 1, 1]), ("scitail", 6, [0, 1] * 3)):
        found = json.loads((run / "evaluations" / f"{name}.json").read_text())
        table = parquet.read_table(run / "evaluations" / f"{name}.parquet").to_pydict()
        assert found["examples"] == len(table["label"]) == count
        assert table["label"] == gold
        right = [p == y for p, y in zip(table["prediction"], table["label"], strict=True)]
        assert found["score"] == pytest.approx(sum(right) / count)

    shutil.rmtree(run / "evaluations")
    asked = (str(run), "--data", str(tmp_path / "data"), "--tasks")
    by_folder = run_command(tmp_path, environment, *asked, "scitail", module=SDEVALUATE)
    assert by_folder.code == 0, by_folder.err
    assert f"scitail: accuracy {found['score']:.4f} (6 examples)" in by_folder.out
    wrong = run_command(tmp_path, environment, *asked, "scitial", module=SDEVALUATE)
    assert wrong.code == 1
    assert "there is no task 'scitial'. Did you mean 'scitail'?" in wrong.err


def test_a_wrong_evaluation_task_is_refused_before_anything_is_trained(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun(*SMALL, "eval_tasks=[snly]")
    assert ended.code == 1
    assert "sdrun: there is no task 'snly'. Did you mean 'snli'?" in ended.err
    assert not list((tmp_path / "outputs").glob("*/*/*/*"))


def test_a_sweep_of_real_runs_becomes_a_report(sdrun: Sdrun, environment: dict[str, str], tmp_path: Path) -> None:
    swept = sdrun("-m", "method=vanilla,dynsdpb", *SMALL, DIAGNOSTICS)
    assert swept.code == 0, swept.err
    ended = run_command(tmp_path, environment, "outputs", "--out", "report", module=SDREPORT)
    assert ended.code == 0, ended.err
    assert "2 runs: 2 finished" in ended.out
    text = (tmp_path / "report" / "report.md").read_text()
    first_row = next(line for line in text.splitlines() if line.startswith("| synth_entailment · "))
    study, said, missing = (cell.strip() for cell in first_row.strip("|").split(" | "))
    assert f"{study}: {said} Missing: {missing}." in ended.out  # the first screen's sentence, in the terminal too
    for title in (
        "Scores",
        "How do τ and α move",
        "Do the signals mean",
        "Do gradients reach",
        "Are probabilities honest",
    ):
        assert f"### {title}" in text
    assert "The task is generated" in text
    assert len(list((tmp_path / "report" / "figures").glob("*.svg"))) >= 6
    first, second = (file.parent.name for file in sorted((tmp_path / "outputs").glob("*/*/*/*/results.json")))
    for words, said in (
        (("--list",), "2 runs: 2 finished; all: synth_entailment, tiny_bert"),
        (("--diff", first, second), "method.name"),
        (("--examples", first, second, "--out", "pair"), "What A predicts (across) for each label (down)"),
        (("--paper", "outputs"), "written to paper/paper.tex"),
    ):
        told = run_command(tmp_path, environment, *words, module=SDREPORT)
        assert told.code == 0, told.err
        assert said in told.out
    assert (tmp_path / "pair" / "examples.csv").is_file()
    methods = (tmp_path / "paper" / "methods.tex").read_text()
    assert "unknown" not in methods
    assert str(tmp_path) not in methods + (tmp_path / "paper" / "checklist.md").read_text()
