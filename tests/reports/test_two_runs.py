"""Two runs side by side (--diff) and example by example (--examples)."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.cells import cell_len
from sklearn.metrics import confusion_matrix

from selfdistill_cli.errors import UserError
from selfdistill_cli.reports.command import report
from selfdistill_cli.reports.diff import differing, parting, print_difference, two_runs
from selfdistill_cli.reports.examples import compare, mcnemar, print_examples
from selfdistill_cli.reports.runs import read_run
from tests.helpers.made_runs import make_run
from tests.helpers.screens import TERMINALS, shown

pytestmark = pytest.mark.thorough

TEXTS = ["a plain one", "one with [red] brackets", "zwei  Worte", "", "a,b;c", "tab\there", "ß", "last"]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def told(run: Path, predictions: list[int], texts: list[str] = TEXTS, names: tuple[str, ...] = ("no", "yes")) -> None:
    """Give a run these predictions; the first ones are the surest."""
    logits = [[0.0] * len(names) for _ in predictions]
    for place, prediction in enumerate(predictions):
        logits[place][prediction] = 10.0 - place
    table = {
        "split": ["validation"] * len(texts), "index": list(range(len(texts))), "text": texts, "logits": logits,
        "prediction": predictions, "label": LABELS, "prediction_name": [names[p] for p in predictions],
        "label_name": [names[y] for y in LABELS],
    }  # fmt: skip
    parquet.write_table(pa.table(table), run / "predictions.parquet")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A is right in rows 0, 1, 2, 4; B in rows 0, 4, 5, 6, 7."""
    a, b = make_run(tmp_path, "method=vanilla"), make_run(tmp_path, "method=dynsdpb")
    told(a, [0, 0, 0, 1, 1, 0, 0, 0])
    told(b, [0, 1, 1, 1, 1, 1, 1, 1])
    return a, b


def test_the_examples_are_those_of_the_split_that_the_score_is_of(pair: tuple[Path, Path]) -> None:
    for run in pair:
        scored = parquet.read_table(run / "predictions.parquet")
        tested = scored.set_column(0, "split", pa.array(["test"] * len(TEXTS)))
        parquet.write_table(pa.concat_tables([scored, tested]), run / "predictions.parquet")
    table = compare(*map(read_run, pair))
    assert (set(table["split"]), len(table)) == ({"validation"}, len(TEXTS))


# --- which runs are meant ------------------------------------------------------------------------


def test_runs_are_named_by_folder_or_by_the_beginning_of_their_key(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    assert [run.path for run in two_runs([str(a), b.name[:6]], [tmp_path])] == [a, b]
    shutil.copytree(a, tmp_path / "more" / a.name)
    with pytest.raises(
        UserError, match=rf"2 runs below .* have a key that begins with {a.name[:4]}: .*Name one by its"
    ):
        two_runs([str(a), a.name[:4]], [tmp_path])
    with pytest.raises(UserError, match=rf"no run below .* has such a key. Did you mean '{a.name}'"):
        two_runs([a.name[:-1] + "x", a.name], [tmp_path])
    with pytest.raises(UserError, match=r"holds 3 runs: name the folder of one, or its key"):
        two_runs([str(tmp_path), a.name], [tmp_path])
    with pytest.raises(UserError, match="there is no folder nothing, and no run below"):
        two_runs(["nothing", "nothing"], [tmp_path / "nowhere"])


# --- what differs --------------------------------------------------------------------------------


def test_only_what_differs_is_shown_and_what_one_lacks_is_said() -> None:
    assert differing({"a": 1, "b": 2.0, "c": None}, {"a": 1, "b": 2.5, "d": "x"}) == {
        "b": ("2", "2.5"),
        "c": ("none", "–"),
        "d": ("–", "x"),
    }


def with_losses(run: Path, losses: list[float]) -> None:
    lines = [json.dumps({"kind": "train", "step": s, "epoch": 1.0, "loss": x}) for s, x in enumerate(losses, start=1)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_losses_part_at_the_first_step_in_which_they_are_not_the_same() -> None:
    def rows(*losses: float) -> dict[int, dict[str, float]]:
        return {step: {"loss": loss} for step, loss in enumerate(losses, start=1)}

    same = rows(3.0, 2.0, 1.0)
    assert parting(same, same, "loss") is None
    assert parting(same, rows(3.0, 2.001, 0.9), "loss") == 2
    assert parting(same, rows(3.0, 2.001, 0.9), "loss", 0.01) == 3
    assert parting(same, {3: {"loss": 0.5}}, "loss") == 3  # of the steps that both recorded
    assert parting(same, {9: {"loss": 0.5}}, "loss") is None


def test_a_difference_names_settings_circumstances_scores_and_the_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = make_run(tmp_path, "method=vanilla", fingerprints={"data": "one"}, best_epoch=2.0)
    b = make_run(tmp_path, "method=vanilla", "seed=1", "runtime.precision=bf16", fingerprints={"data": "two"})
    (a / "environment.json").write_text('{"packages": {"torch": "2.1"}, "python": "3.10", "command": ["x"]}')
    (b / "environment.json").write_text("not JSON")
    with_losses(a, [3.0, 2.0, 1.0])
    with_losses(b, [3.0, 2.001, 0.5])
    report(["--diff", str(a), b.name, str(tmp_path)])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.replace("\xa0", " ").splitlines()]
    assert lines[0].startswith("A ")
    assert "vanilla on synth_entailment, minilm, seed 0, finished" in lines[0]
    assert "seed 0 1" in lines
    assert "runtime.precision fp32 bf16" in lines
    assert "torch 2.1 –" in lines
    assert "fingerprints.data one two" in lines
    assert not any(line.startswith(("method", "command")) for line in lines)
    scores = [read_run(run).results["score"] for run in (a, b)]
    assert f"accuracy {scores[0]:.4f} {scores[1]:.4f} {scores[1] - scores[0]:.4f}" in lines
    assert "best epoch 2 – –" in lines
    assert "loss 2 2 2.001 3" in lines


@pytest.mark.parametrize("width", TERMINALS)
def test_a_difference_and_examples_fit_the_terminal(width: int, pair: tuple[Path, Path]) -> None:
    a, b = (read_run(run) for run in pair)
    for show in (print_difference, lambda x, y, console: print_examples(x, y, console, None)):
        lines = shown(lambda console, show=show: show(a, b, console), width).splitlines()  # type: ignore[misc]
        assert [line for line in lines if cell_len(line.rstrip()) > width and "/" not in line] == []  # paths stay whole


def test_a_run_beside_itself_differs_in_nothing(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    report(["--diff", str(pair[0]), str(pair[0])])
    said = capsys.readouterr().out
    assert "No setting differs that can change a result." in said
    assert "Their losses are the same in all 30 steps that both recorded." in said


# --- example by example --------------------------------------------------------------------------


def test_counts_and_confusion_matrices_are_those_of_the_predictions(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = pair
    report(["--examples", str(a), str(b), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "A right 2 2" in lines  # rows 0 and 4; rows 1 and 2
    assert "A wrong 3 1" in lines  # rows 5, 6 and 7; row 3
    table = pd.read_csv(tmp_path / "out" / "examples.csv", keep_default_na=False)
    for letter in "AB":
        counts = confusion_matrix(table["label"], table[letter], labels=["no", "yes"])
        at = next(place for place, line in enumerate(lines) if line.startswith(f"What {letter} predicts"))
        assert lines[at + 2 : at + 4] == [f"no {counts[0, 0]} {counts[0, 1]}", f"yes {counts[1, 0]} {counts[1, 1]}"]
    only_a = said[said.index("Right in A alone: 2") : said.index("Right in B alone: 3")]
    assert [text for text in TEXTS[:4] if text and text in only_a] == TEXTS[1:3]
    assert list(table["text"]) == TEXTS
    assert list(table["A right"]) == [True, True, True, False, True, False, False, False]


def test_the_surest_mistakes_come_first(pair: tuple[Path, Path]) -> None:
    a, b = (read_run(run) for run in pair)
    table = compare(a, b)
    assert list(table["B margin"]) == [10.0 - place for place in range(8)]
    said = shown(lambda console: print_examples(a, b, console, None), None)
    assert said.index("one with [red] brackets") < said.index("zwei  Worte")


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 11)])
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(only_a: int, only_b: int) -> None:
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar(only_a, only_b) == pytest.approx(min(1.0, 2 * tail))


def test_many_classes_are_told_by_the_pairs_that_are_confused(pair: tuple[Path, Path]) -> None:
    names = tuple(f"class {number}" for number in range(12))
    for run, predictions in zip(pair, ([9, 9, 9, 0, 1, 1, 2, 3], [0, 0, 0, 11, 4, 5, 6, 10]), strict=True):
        told(run, predictions, names=names)
    a, b = (read_run(run) for run in pair)
    said = " ".join(shown(lambda console: print_examples(a, b, console, None), None).split())
    assert "What is confused most often label prediction A B class 0 class 9 3 0" in said
    assert "class 1 class 10 0 1" in said
    assert "predicts (across)" not in said


def test_numbers_are_compared_by_their_errors(pair: tuple[Path, Path]) -> None:
    rng = np.random.default_rng(0)
    label = rng.random(50)
    errors = {}
    for run in pair:
        prediction = label + rng.normal(size=50)
        errors[run] = np.abs(prediction - label)
        table = {
            "split": ["validation"] * 50,
            "index": np.arange(50),
            "text": ["x"] * 50,
            "prediction": prediction,
            "label": label,
        }
        parquet.write_table(pa.table(table), run / "predictions.parquet")
        results = json.loads((run / "results.json").read_text()) | {"kind": "regression"}
        (run / "results.json").write_text(json.dumps(results))
    a, b = (read_run(run) for run in pair)
    said = shown(lambda console: print_examples(a, b, console, None), None)
    nearer = int((errors[pair[0]] < errors[pair[1]]).sum())
    assert f"mean absolute error {errors[pair[0]].mean():.4f} in A, {errors[pair[1]].mean():.4f} in B" in said
    assert f"A is nearer in {nearer}, B in {50 - nearer}" in said
    best = int((errors[pair[0]] - errors[pair[1]]).argmin())
    assert f"(row {best} of validation)" in said[said.index("Nearer in A") :].splitlines()[1]


def test_written_answers_are_compared_by_what_counts_as_right(pair: tuple[Path, Path]) -> None:
    of_both: list[list[str | None]] = [["4", None], ["5", "7"]]
    for run, answers in zip(pair, of_both, strict=True):
        table = {
            "split": ["validation"] * 2, "index": [0, 1], "prompt": ["2 + 2 =", "3 + 4 ="], "text": ["so: 4", "hm"],
            "answer": pa.array(answers, pa.string()), "references": [["4", "four"], ["7"]],
            "correct": [answer in right for answer, right in zip(answers, (["4", "four"], ["7"]), strict=True)],
        }  # fmt: skip
        parquet.write_table(pa.table(table), run / "predictions.parquet")
    a, b = (read_run(run) for run in pair)
    said = shown(lambda console: print_examples(a, b, console, None), None)
    assert "label 4 | four, A 4, B 5 (row 0 of validation)\n  2 + 2 =" in said
    assert "label 7, A hm, B 7 (row 1 of validation)" in said  # no answer was found in it: all that was written
    assert "predicts (across)" not in said


def test_runs_on_other_data_are_refused_with_the_reason(pair: tuple[Path, Path]) -> None:
    a, b = (read_run(run) for run in pair)
    told(pair[1], [0] * 8, texts=["another text", *TEXTS[1:]])
    with pytest.raises(UserError, match=r"1 of 8 examples have the same number in .* another text or label"):
        compare(a, b)
    moved = (
        parquet.read_table(pair[1] / "predictions.parquet")
        .drop_columns(["index"])
        .append_column("index", pa.array(range(100, 108)))
    )
    parquet.write_table(moved, pair[1] / "predictions.parquet")
    with pytest.raises(UserError, match="were scored on no example in common"):
        compare(a, b)
    (pair[1] / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"predictions.parquet cannot be read"):
        compare(a, b)
