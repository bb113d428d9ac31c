"""`sdpredict` says of rows without labels what the run itself said of the same rows, in the order of the file."""

from __future__ import annotations

import csv
import json
import math
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from pyarrow import parquet

from selfdistill_cli import experiment
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluate import evaluate
from selfdistill_cli.evaluation.glue_server import write_for_server
from selfdistill_cli.predict import FLAGS, main, predict
from selfdistill_cli.runs.finished import in_flags, said_in_flags, with_file_flags
from selfdistill_cli.tasks.sources import RawSplit
from selfdistill_cli.tasks.unlabelled import unlabelled_rows, with_choices
from tests.helpers.runs import composed, only_run
from tests.helpers.task_files import write

TEXTS = [f"the {colour} door is number {n}" for n in range(12) for colour in ("red", "blue", "green")]
COLOURS = [text.split()[1] for text in TEXTS]
QUICK = ("method=vanilla", "tracking=none", "runtime.device=cpu", "schedule.batch_size=12", "schedule.lr=1e-3")
BERT = ("model=tiny_bert", "model.config.hidden_size=32", "model.config.intermediate_size=64")
LLAMA = (
    "model=tiny_llama",
    "task.long_prompts=cut",
    "model.config.hidden_size=32",
    "model.config.intermediate_size=64",
)
TASKS: dict[str, tuple[tuple[str, ...], dict[str, list[Any]]]] = {
    "classification": ((*BERT, "task.label=label", "schedule.epochs=6"), {"text": TEXTS, "label": COLOURS}),
    "regression": (
        (*BERT, "task.label=label", "task.kind=regression", "schedule.epochs=1"),
        {"text": TEXTS, "label": [i / 7 for i in range(36)]},
    ),
    "generation": (
        (*LLAMA, "task.kind=generation", "task.answer=answer", "schedule.epochs=4", "task.decoding.max_new_tokens=5"),
        {"text": TEXTS, "answer": COLOURS},
    ),
    "multiple_choice": (
        (*LLAMA, "task.kind=multiple_choice", "task.choices=choices", "task.label=label", "schedule.epochs=1"),
        {"text": TEXTS, "choices": [["red", "blue", "green"]] * 36, "label": [0, 1, 2] * 12},
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, trained on a file and scored on another one with the same rows backwards."""
    found = {}
    for kind, (settings, columns) in TASKS.items():
        folder = tmp_path_factory.mktemp(kind)
        train = write(folder / "train.parquet", columns)
        scored = write(folder / "scored.parquet", {name: values[::-1] for name, values in columns.items()})
        files = (f"task.path={train}", f"task.validation_path={scored}", f"paths.outputs={folder}/outputs")
        experiment.run(composed("task=custom", "task.text=text", *QUICK, *files, *settings))
        found[kind] = only_run(folder / "outputs")
    return found


def asked(kind: str, run: Path, folder: Path, ending: str = "parquet") -> dict[str, list[Any]]:
    """What sdpredict writes for the rows that the run was scored on, without their labels."""
    _, columns = TASKS[kind]
    kept = {name: values[::-1] for name, values in columns.items() if name in ("text", "choices")}
    new = write(folder / "new.parquet", {"unused": list(range(36)), **kept})
    predict([str(run), str(new), "--out", str(folder / f"out.{ending}")])
    table: dict[str, list[Any]] = parquet.read_table(folder / f"out.{ending}").to_pydict()
    return table


@pytest.mark.parametrize("kind", TASKS)
def test_rows_without_labels_get_what_the_run_said_of_them(kind: str, runs: dict[str, Path], tmp_path: Path) -> None:
    said = parquet.read_table(runs[kind] / "predictions.parquet").to_pydict()
    found = asked(kind, runs[kind], tmp_path)
    assert found["text"] == TEXTS[::-1]
    assert found["index"] == list(range(36))
    if kind == "classification":
        names = ["blue", "green", "red"]
        assert found["prediction"] == [names[number] for number in said["prediction"]]
        weights = np.exp(np.array(said["logits"], dtype=float))
        for number, name in enumerate(names):
            expected = (weights[:, number] / weights.sum(1)).tolist()
            assert found[f"probability_{name}"] == pytest.approx(expected, abs=1e-5)
    elif kind == "regression":
        assert found["prediction"] == pytest.approx(said["prediction"], rel=1e-5)
    elif kind == "generation":
        assert found["written"] == said["text"]
        assert found["prediction"] == said["answer"]
    else:
        assert found["prediction"] == said["prediction"]
        assert found["choice"] == [["red", "blue", "green"][number] for number in said["prediction"]]


def test_every_format_holds_the_same(runs: dict[str, Path], tmp_path: Path) -> None:
    run = str(runs["classification"])
    texts = ['a "quoted" door', "the red door, number 3", " 007 ", "NA", "two\nlines"]
    new = write(tmp_path / "new.parquet", {"text": texts})
    for ending in ("csv", "jsonl", "parquet"):
        predict([run, str(new), "--out", str(tmp_path / f"out.{ending}")])
    expected = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["text"] for row in expected] == texts
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{name: str(value) for name, value in row.items()} for row in expected]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == expected
    assert sum(value for name, value in expected[0].items() if name.startswith("prob")) == pytest.approx(1, abs=1e-5)


def test_a_column_of_another_name_is_given_by_a_flag(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write(tmp_path / "new.csv", {"body": TEXTS[:4]})
    predict([str(runs["classification"]), str(new), "--text", "body"])
    with (tmp_path / "new.predictions.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == TEXTS[:4]
    assert f"4 predictions for {new}: {tmp_path}/new.predictions.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{run}", "{folder}/new.csv"], "no column 'text'.* It has body; --text <column>"),
        (
            ["{run}", "{folder}/new.csv", "--text", "nope"],
            "no column 'nope'. It has body; the run had 'text'",
        ),
        (["{run}", "{folder}/odd.csv"], r"Fields are cut at ','; --delimiter <character> names another"),
        (["{run}", "{folder}/nev.csv", "--text", "body"], "no file .*Did you mean 'new.csv'"),
        (["{run}"], "name the file that holds the new rows"),
        (["{folder}", "{folder}/new.csv"], "is no finished run: name the folder that holds its results.json"),
        (["{run}/../..", "{folder}/new.csv"], "there are runs below it; name one, such as .*vanilla"),
        (["{folder}/nowhere", "{folder}/new.csv"], "there is no such folder"),
        (["{folder}/begun", "{folder}/new.csv"], "interrupted or still trains"),
        (["{run}", "{folder}/new.csv", "--text", "body", "--out", "{folder}/there.csv"], "exists. .*--overwrite"),
        (["{run}", "{folder}/new.csv", "--text", "body", "--out", "x.xlsx"], "one of csv, parquet, jsonl"),
        (
            ["{run}", "{folder}/blank.csv"],
            "'text' is empty in 2 of 3 rows .rows 1, 2, counted from 0.* --missing keep takes blank texts as they are",
        ),
        (["{run}", "{folder}/new*.csv", "--text", "body"], "is a pattern: --out names the file of predictions"),
        (["{run}", "{folder}/new.csv", "--text", "body", "--out", "{folder}/there.csv/x.csv"], "there.csv is a file"),
        (["{run}", "--format", "glue"], "the benchmark has no task 'custom'. It has cola"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    words: list[str], expected: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    write(tmp_path / "new.csv", {"body": TEXTS[:2]})
    (tmp_path / "blank.csv").write_text('text,n\na,1\n"  ",2\n"",3\n')
    (tmp_path / "odd.csv").write_text("text,n\na,1,2\n")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "there.csv").write_text("mine\n")
    with pytest.raises(UserError, match=expected):
        predict([word.format(run=runs["classification"], folder=tmp_path) for word in words])
    assert (tmp_path / "there.csv").read_text() == "mine\n"


def test_blank_texts_are_predicted_where_that_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    new = write(tmp_path / "new.parquet", {"text": ["a door", " ", None]})
    predict([str(runs["classification"]), str(new), "--missing", "keep"])
    with (tmp_path / "new.predictions.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["a door", " ", ""]
    with pytest.raises(SystemExit):  # none is ever left out
        predict([str(runs["classification"]), str(new), "--missing", "drop"])


def test_a_file_without_names_of_columns(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.csv").write_text("a red door,1\na blue door,2\n")
    with pytest.raises(UserError, match=r"has no column 'text'.* if it holds none: --no-header\.$"):
        predict([str(runs["classification"]), str(tmp_path / "new.csv")])
    predict([str(runs["classification"]), str(tmp_path / "new.csv"), "--no-header", "--text", "c0"])
    assert "2 predictions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Give task.delimiter, such as task.delimiter=';'.", "Give --delimiter, such as --delimiter ';'."),
        ("if it holds none: task.header=false", "if it holds none: --no-header"),
        ("trained without any (task.text_pair=null)", "trained without any (task.text_pair=null)"),
        ("""as in 'task.choices=["{a}", "{b}"]'""", """as in --choices '["{a}", "{b}"]'"""),
        ("task=chat task.messages=turns learns them", "task=chat task.messages=turns learns them"),
        ("""(typed behind sdrun: "task.choices='[1]'")""", """(typed behind sdrun: "task.choices='[1]'")"""),
        ("/data/task.text=1/new.csv, task.answer_rule=text", "/data/task.text=1/new.csv, task.answer_rule=text"),
    ],
)
def test_settings_that_have_a_flag_are_said_as_flags(words: str, expected: str) -> None:
    assert in_flags(words, FLAGS) == expected


def test_a_setting_that_no_flag_gives_is_said_to_be_the_runs() -> None:
    with (
        pytest.raises(UserError, match=r"\nNo flag changes task.answer_rule or task.metrics here"),
        said_in_flags(FLAGS),
    ):
        raise UserError("task.answer_rule=number reads no answer; take task.metrics=[f1], or another --text.")


@pytest.mark.parametrize(
    ("kind", "cut"), [("classification", "1 of 2"), ("generation", "1 of 2"), ("multiple_choice", "3 of 6")]
)
def test_texts_that_are_cut_are_counted(
    kind: str, cut: str, runs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = write(
        tmp_path / "new.parquet", {"text": [TEXTS[0], "door " * 300], "choices": [["red", "blue", "green"]] * 2}
    )
    predict([str(runs[kind]), str(new)])
    assert re.search(rf"task.max_length=128 cuts {cut} rows; the longest has 30\d tokens\.", caplog.text)


def test_what_a_flag_may_say_is_what_the_setting_may(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(write(tmp_path / "new.csv", {"text": TEXTS[:2], "label": COLOURS[:2]}))
    for ask in (
        lambda *more: predict([str(runs["classification"]), new, *more]),
        lambda *more: evaluate([str(runs["classification"]), "--file", new, *more]),
    ):
        with pytest.raises(SystemExit):
            ask("--quoting", "singel")
        assert "invalid choice: 'singel' (choose from 'double', 'none')" in capsys.readouterr().err
        with pytest.raises(UserError, match="--encoding= names nothing"):
            ask("--encoding=")


@pytest.mark.parametrize(
    ("kind", "flag", "expected"),
    [
        (
            "generation",
            "--text-pair",
            "--text-pair other: a task of generation does not use it, only classification",
        ),
        ("generation", "--choices", "--choices other: a task of generation does not use it"),
        ("classification", "--choices", "--choices other: a task of classification does not use it"),
        ("regression", "--messages", "--messages other: a task of regression does not use it"),
        ("multiple_choice", "--text-pair", "--text-pair other: a task of multiple_choice does not use it"),
        ("classification", "--text-pair", r"--text-pair other: .* was trained without any \(task.text_pair=null\)"),
        ("regression", "--text-pair", "--text-pair other: .* was trained without any"),
        ("generation", "--messages", r"--messages other: .* was trained without any \(task.messages=null\)"),
    ],
)
def test_a_flag_that_the_run_would_ignore_is_refused(
    kind: str, flag: str, expected: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    new = write(tmp_path / "new.csv", {"text": TEXTS[:2], "choices": ["['a', 'b']"] * 2, "other": TEXTS[:2]})
    with pytest.raises(UserError, match=expected):
        predict([str(runs[kind]), str(new), flag, "other"])
    with pytest.raises(UserError, match=expected):
        evaluate([str(runs[kind]), "--file", str(new), flag, "other"])
    assert not (tmp_path / "new.predictions.csv").exists()


def test_a_run_of_conversations_has_no_texts_beside_them(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Which door?"}, {"role": "assistant", "content": "The red one."}]
    files = [write(tmp_path / f"{name}.jsonl", {name: [turns] * 10}) for name in ("messages", "chats")]
    words = ("task=chat", f"task.path={files[0]}", *QUICK, *LLAMA, "schedule.max_steps=1", "task.max_length=128")
    experiment.run(composed(*words, f"paths.outputs={tmp_path}/outputs", "task.decoding.max_new_tokens=2"))
    run, new = str(only_run(tmp_path / "outputs")), str(files[1])
    for ask in (lambda *more: predict([run, new, *more]), lambda *more: evaluate([run, "--file", new, *more])):
        with pytest.raises(UserError, match=r"--text chats does nothing beside --messages messages"):
            ask("--text", "chats")
        ask("--messages", "chats")
    with pytest.raises(UserError, match=r"--references text does not go with --messages chats"):
        evaluate([run, "--file", new, "--messages", "chats", "--references", "text"])
    assert (tmp_path / "chats.predictions.csv").is_file()


def test_predictions_stand_beside_the_file_under_its_whole_name(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How the file was read is said, where it is not plain; ~ in --out is the home."""
    (tmp_path / "rows.june.csv").write_text("text;n\na red door;1\n")
    predict([str(runs["classification"]), str(tmp_path / "rows.june.csv")])
    assert (tmp_path / "rows.june.predictions.csv").is_file()
    assert "is read with delimiter ';'" in capsys.readouterr().out.replace("\n", " ")
    monkeypatch.setenv("HOME", str(tmp_path))
    predict([str(runs["classification"]), str(tmp_path / "rows.june.csv"), "--out=~/mine.csv"])
    assert (tmp_path / "mine.csv").is_file()


@pytest.mark.parametrize(
    ("trained", "asked_of", "kept"),
    [
        ("train.v1.tsv", "new.v2.tsv", True),
        ("train.csv", "june.2026.csv.gz", True),
        ("folder", "new.tsv", True),
        ("train.tsv", "new.csv", False),
    ],
)
def test_how_a_text_file_is_written_is_taken_over_for_files_of_its_format(
    trained: str, asked_of: str, kept: bool, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "part.tsv").write_text("text\tlabel\na\tb\n")
    task = composed("task=custom", f"task.path={tmp_path / trained}", "task.quoting=double").task
    found = with_file_flags(task, Namespace(), tmp_path / asked_of)
    assert found.quoting == ("double" if kept else None)


def test_the_benchmarks_test_set_is_not_a_file_that_was_validated_on(tmp_path: Path) -> None:
    """Of a run that was scored on a file of its own, or on a split whose test set has no known name."""
    pairs = {"sentence1": TEXTS[:2], "sentence2": TEXTS[2:4]}
    write(tmp_path / "rte" / "test.parquet", {**pairs, "label": [-1] * 2})
    own = write(tmp_path / "own.csv", {name: texts[:1] for name, texts in pairs.items()})

    def as_saved(*words: str) -> Any:
        return OmegaConf.create(OmegaConf.to_container(composed("task=rte", *words).task))

    (found,) = unlabelled_rows(as_saved(f"task.validation_path={own}"), str(tmp_path), None, tmp_path / "cache")
    assert (found.name, len(found)) == ("test", 2)
    with pytest.raises(UserError, match=r"task.validation=\[dev\]: which split is the test set"):
        unlabelled_rows(as_saved("task.validation=[dev]"), str(tmp_path), None, tmp_path / "cache")
    with pytest.raises(UserError, match="task=rte: there is no test split") as refused:
        unlabelled_rows(as_saved(), str(tmp_path / "nowhere"), None, tmp_path / "cache")
    assert "generated" not in str(refused.value)


def test_a_mistake_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["sdpredict", str(tmp_path / "none"), "new.csv"])
    with pytest.raises(SystemExit, match=r"^sdpredict: .*there is no such folder\.$"):
        main()


# --- the benchmark's server -----------------------------------------------------------------------


def test_the_test_set_of_a_benchmark_goes_to_its_server(tmp_path: Path) -> None:
    """RTE.tsv with names, from the unlabelled test split of the data folder (its labels are -1, as on the Hub)."""
    pairs = {"sentence1": TEXTS[:20], "sentence2": TEXTS[16:36]}
    for split in ("train", "validation"):
        write(tmp_path / "data" / "rte" / f"{split}.parquet", {**pairs, "label": [0, 1] * 10})
    write(tmp_path / "data" / "rte" / "test.parquet", {**pairs, "label": [-1] * 20, "idx": list(range(20))})
    places = (f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs")
    experiment.run(composed("task=rte", *QUICK, *BERT, *places, "schedule.max_steps=2"))
    run = only_run(tmp_path / "outputs")
    predict([str(run), "--format", "glue", "--out", str(tmp_path / "server"), "--data", f"{tmp_path}/data"])
    lines = (tmp_path / "server" / "RTE.tsv").read_text().splitlines()
    said = parquet.read_table(run / "predictions.parquet")["prediction"].to_pylist()
    names = ["entailment", "not_entailment"]
    assert lines == ["index\tprediction", *(f"{i}\t{names[number]}" for i, number in enumerate(said))]


@pytest.mark.parametrize(
    ("task", "labels", "predictions", "expected"),
    [
        ("stsb", [], [-0.2, 2.34567, 7.0], ["0.000", "2.346", "5.000"]),
        ("cola", ["unacceptable", "acceptable"], ["acceptable", "unacceptable"], ["1", "0"]),
        ("mnli", ["entailment", "neutral"], ["neutral", "entailment"], ["neutral", "entailment"]),
    ],
)
def test_the_server_wants_scores_numbers_or_names(
    task: str, labels: list[str], predictions: list[Any], expected: list[str], tmp_path: Path
) -> None:
    write_for_server(tmp_path / "x.tsv", task, labels, predictions)
    rows = [line.split("\t") for line in (tmp_path / "x.tsv").read_text().splitlines()[1:]]
    assert [row[1] for row in rows] == expected
    assert [int(row[0]) for row in rows] == list(range(len(expected)))
    assert not any(math.isnan(float(row[1])) for row in rows if task == "stsb")


def test_choices_that_a_csv_writes_as_a_list_are_those_of_training() -> None:
    raw = RawSplit("new", pa.table({"q": ["which?"], "options": ["['red', 'green']"]}), "new.csv")
    task = OmegaConf.create({"text": "q", "text_pair": None, "choices": "options"})
    assert with_choices(task, raw).choices == [[" red", " green"]]
    raw = RawSplit("new", pa.table({"q": ["which?"], "options": ["red|green"]}), "new.csv")
    with pytest.raises(UserError, match=r"gives a single choice, 'red\|green'.*column of lists"):
        with_choices(task, raw)
