"""Selection is not evaluation: what is chosen never depends on the labels that are reported, nor on the test set."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.helpers.processes import Sdrun
from tests.helpers.runs import SMALL, only_run, results, rows, without_times

COMMAND = (
    *("task=custom", "task.path=train.csv", "task.text=text", "task.label=label", "task.kind=classification"),
    *(word for word in SMALL if "generator" not in word),
    *("method=vanilla", "task.selection=held_out", "task.selection_share=0.25", "task.label_noise=0.1"),
)


def write_rows(path: Path, count: int, first: int = 0, flipped: bool = False) -> None:
    """A word that says the label among others that do not; `flipped`: every label is the other one."""
    rng = random.Random(first)
    lines = []
    for number in range(first, first + count):
        label = rng.choice(["bad", "good"])
        said = {"bad": "awful", "good": "lovely"}[label]
        written = {"bad": "good", "good": "bad"}[label] if flipped else label
        lines.append(f"a {said} film number {number} {rng.choice('xyz')},{written}")
    path.write_text("\n".join(["text,label", *lines]) + "\n")


@pytest.fixture
def runs(sdrun: Sdrun, tmp_path: Path) -> tuple[Path, Path]:
    """The same command with the labels of the validation and the test file turned round in the second."""
    found = []
    write_rows(tmp_path / "train.csv", 64)
    for name in ("right", "flipped"):
        for part, first in (("validation", 100), ("test", 200)):
            write_rows(tmp_path / f"{part}.{name}.csv", 31, first, flipped=name == "flipped")
        files = [f"task.{part}_path={part}.{name}.csv" for part in ("validation", "test")]
        ended = sdrun(*COMMAND, *files, f"paths.outputs={name}")
        assert ended.code == 0, ended.err
        assert "16 held out to select on" in ended.err
        assert "chosen on           a held-out part of training (accuracy" in ended.out
        found.append(only_run(tmp_path / name))
    return found[0], found[1]


def test_choice_and_report_are_kept_apart(runs: tuple[Path, Path], tmp_path: Path) -> None:
    right, flipped = (results(run) for run in runs)
    # Everything that is trained or chosen is the same, whatever is reported in the end.
    assert [without_times(row) for row in rows(runs[0])] == [without_times(row) for row in rows(runs[1])]
    assert (runs[0] / "model/model.safetensors").read_bytes() == (runs[1] / "model/model.safetensors").read_bytes()
    for name in ("best_epoch", "selection_score", "train_examples"):
        assert right[name] == flipped[name]
    # The scores are those of the other labels.
    assert right["score"] + flipped["score"] == pytest.approx(1)
    assert right["metrics"]["test"]["accuracy"] + flipped["metrics"]["test"]["accuracy"] == pytest.approx(1)
    assert right["score"] == right["metrics"]["final"]["accuracy"]
    assert right["selected_on"] == "held_out"
    assert right["selection_score"] == right["metrics"]["selection"]["accuracy"]
    evaluations = [row["eval/accuracy"] for row in rows(runs[0], "eval")]
    assert right["selection_score"] == max(evaluations)

    predicted = parquet.read_table(runs[0] / "predictions.parquet").to_pylist()
    shown = {name: [row for row in predicted if row["split"] == name] for name in ("validation", "test")}
    assert {name: len(found) for name, found in shown.items()} == {"validation": 31, "test": 31}
    for name, score in (("validation", right["score"]), ("test", right["metrics"]["test"]["accuracy"])):
        assert sum(row["prediction"] == row["label"] for row in shown[name]) / 31 == pytest.approx(score)

    # By content: no row that selects was trained on, and each row of the file did one of the two.
    trained = parquet.read_table(runs[0] / "examples.parquet").column("text").to_pylist()
    every = [line.rpartition(",")[0] for line in (tmp_path / "train.csv").read_text().splitlines()[1:]]
    assert len(trained) == 48
    assert set(trained) < set(every)
    assert right["train_examples"] == 48
