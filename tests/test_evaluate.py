"""`sdevaluate` on files and on tasks of one's own; `eval_tasks` are looked for before anything is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pyarrow import parquet

from selfdistill_cli import experiment
from selfdistill_cli.config.checks import diagnostics_of, eval_tasks_of
from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluate import evaluate
from selfdistill_cli.tasks import findings
from tests.helpers.runs import composed, only_run, results
from tests.helpers.task_files import write

STARS = ["1", "2", "3"]
TEXTS = [f"{word} door number {n}" for n in range(10) for word in ("bad", "plain", "good")]
SETTINGS = (
    *("task=custom", "task.text=text", "task.label=stars", "method=vanilla", "tracking=none", "runtime.device=cpu"),
    *("model=tiny_bert", "model.config.hidden_size=32", "model.config.intermediate_size=64"),
    *("schedule.batch_size=10", "schedule.lr=3e-3", "schedule.epochs=12"),
)


def settings(folder: Path, *further: str) -> Any:
    """A run on a file of star ratings, which are names of classes that look like numbers of classes."""
    train = write(folder / "train.parquet", {"text": TEXTS, "stars": STARS * 10})
    return composed(*SETTINGS, f"task.path={train}", f"paths.outputs={folder}/outputs", "paths.data=nowhere", *further)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stars")
    scored = write(folder / "scored.parquet", {"text": TEXTS, "stars": STARS * 10})
    experiment.run(settings(folder, f"task.validation_path={scored}"))
    return only_run(folder / "outputs")


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    evaluate(words)
    return capsys.readouterr().out


def test_a_file_is_scored_whole_in_the_classes_of_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = results(run)["score"]
    assert score > 0.5  # some are right: a test of order and names
    new = write(tmp_path / "may.csv", {"body": TEXTS[::-1], "rating": (STARS * 10)[::-1]})
    out = said(capsys, str(run), "--file", str(new), "--text", "body", "--label", "rating")
    assert f"file-may: accuracy {score:.4f} (30 examples)" in out


def test_a_run_that_would_start_afresh_and_is_refused_leaves_what_it_would_have_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tmp_path, "schedule.epochs=1")
    experiment.run(asked)
    run = only_run(tmp_path / "outputs")

    def bits() -> dict[str, bytes]:
        files = (file for file in run.rglob("*") if file.is_file() and file.name != "train.log")
        return {str(file.relative_to(run)): file.read_bytes() for file in files}

    before, asked.rerun = bits(), True
    with monkeypatch.context() as broken:
        broken.setattr(experiment, "make_method", Mock(side_effect=UserError("not this one")))
        with pytest.raises(UserError, match="not this one"):
            experiment.run(asked)
    assert bits() == before
    experiment.run(asked)
    after = bits()
    assert after.keys() == before.keys()
    assert after["model/model.safetensors"] == before["model/model.safetensors"]
    assert after["run.json"] != before["run.json"]  # its record elsewhere is another one


def test_texts_that_are_cut_are_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    long = write(tmp_path / "long.parquet", {"text": [*TEXTS[:2], "door " * 300], "stars": STARS})
    said(capsys, str(run), "--file", str(long))
    assert re.search(
        r"file-long, \w+: task.max_length=128 cuts 1 of 3 rows; the longest has 30\d tokens\.", caplog.text
    )


def test_how_a_file_was_read_and_what_was_left_out_is_said(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run / "config.yaml"
    told = config.read_text()
    config.write_text(told.replace("missing: error", "missing: drop"))
    june = tmp_path / "june.tsv"
    june.write_text("text\tstars\n" + "".join(f'"café {n}"\t{n % 4 or ""}\n' for n in range(8)))
    parquet_file = write(tmp_path / "june.parquet", {"text": TEXTS, "stars": [*STARS * 9, None, None, None]})
    try:
        for _ in range(2):  # a score that is found again is of the same rows
            caplog.clear()
            findings._said.clear()
            said(capsys, str(run), "--file", str(june), "--encoding", "cp1252", "--name", "tsv")
            said(capsys, str(run), "--file", str(parquet_file))
            assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
                f"{june}: read with encoding cp1252, although it is UTF-8 throughout, 8 cells stand in quotes, which are kept; "
                "--quoting double takes them off; 2 rows left out (2 without label)",
                f"{parquet_file}: 3 rows left out (3 without label)",
            ]
    finally:
        config.write_text(told)


def test_what_is_advised_can_be_given(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    june = write(tmp_path / "missing.csv", {"text": TEXTS, "stars": [*STARS * 9, "", "", ""]})
    with pytest.raises(UserError, match=r"leave them out with --missing drop\.$"):
        evaluate([str(run), "--file", str(june)])
    assert "(27 examples)" in said(capsys, str(run), "--file", str(june), "--missing", "drop")
    renamed = write(tmp_path / "renamed.csv", {"text": TEXTS, "rating": STARS * 10})
    with pytest.raises(UserError, match=r"no column 'stars'\. It has text, rating\. --label <column> names another\.$"):
        evaluate([str(run), "--file", str(renamed)])
    (tmp_path / "bare.csv").write_text("".join(f"door {n},{n % 3 + 1}\n" for n in range(9)))
    words = (str(run), "--file", str(tmp_path / "bare.csv"))
    with pytest.raises(UserError, match="if it holds none: --no-header"):
        evaluate(words)
    assert "(9 examples)" in said(capsys, *words, "--no-header", "--text", "c0", "--label", "c1")


def test_of_several_runs_one_that_does_not_fit_is_named_and_the_others_are_scored(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    other = of_words(tmp_path / "words")
    june = write(tmp_path / "several.csv", {"text": TEXTS, "stars": STARS * 10})
    with pytest.raises(UserError, match=r"^2 of 3 runs could not be scored\.$"):
        evaluate([str(tmp_path), str(other), str(run), "--file", str(june)])
    assert "file-several: accuracy" in capsys.readouterr().out
    refused = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [words.split(" cannot be scored: ")[0] for words in refused] == [str(tmp_path), str(other)]


def test_a_file_of_one_class_is_scored(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = [
        said(capsys, str(run), "--file", str(write(tmp_path / f"only{n}.parquet", {"text": TEXTS[n::3], "stars": [s] * 10})))
        for n, s in enumerate(STARS)
    ]  # fmt: skip
    shares = [float(words.split("accuracy ")[1].split()[0]) for words in right]
    assert sum(shares) / 3 == pytest.approx(results(run)["score"], abs=1e-3)


def of_words(folder: Path, *further: str) -> Path:
    """A run that learned two classes with names, once."""
    train = write(folder / "train.parquet", {"text": TEXTS[:20], "stars": ["pos", "neg"] * 10})
    words = (*SETTINGS, f"task.path={train}", f"paths.outputs={folder}/outputs", "paths.data=nowhere", *further)
    experiment.run(composed(*words, "schedule.epochs=1"))
    return only_run(folder / "outputs")


def test_numbers_are_no_classes_where_nobody_said_in_which_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbered: dict[str, list[Any]] = {"text": TEXTS[:20], "stars": [1, 0] * 10}
    file = write(tmp_path / "numbers.csv", numbered)
    hub = write(tmp_path / "named.parquet", numbered)
    for number, names in enumerate((["neg", "pos"], ["bad", "good"])):
        features = {"stars": {"_type": "ClassLabel", "names": names}}
        about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        named = parquet.read_table(hub).replace_schema_metadata(about)
        parquet.write_table(named, tmp_path / f"named{number}.parquet")
    run = of_words(tmp_path / "sorted")
    with pytest.raises(UserError, match=r"unknown label '1'\. Allowed are neg, pos"):
        evaluate([str(run), "--file", str(file)])
    with pytest.raises(UserError, match=r"unknown label 'good'\. Allowed are neg, pos"):
        evaluate([str(run), "--file", str(tmp_path / "named1.parquet")])
    held = said(capsys, str(run), "--file", str(tmp_path / "named0.parquet"))
    with_words = said(capsys, str(run), "--file", str(tmp_path / "sorted" / "train.parquet"))
    assert held.partition("accuracy")[2] == with_words.partition("accuracy")[2]
    run = of_words(tmp_path / "said", "task.labels=[neg,pos]")
    assert "(20 examples)" in said(capsys, str(run), "--file", str(file))


def test_groups_that_only_keep_examples_together_need_not_be_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.parquet", {"text": TEXTS, "stars": STARS * 10, "of": [n // 3 for n in range(30)]})
    words = (*SETTINGS, f"task.path={train}", f"paths.outputs={tmp_path}/outputs", "paths.data=nowhere")
    experiment.run(composed(*words, "task.group=of", "schedule.max_steps=1"))
    new = write(tmp_path / "new.parquet", {"text": TEXTS, "stars": STARS * 10})
    assert "(30 examples)" in said(capsys, str(only_run(tmp_path / "outputs")), "--file", str(new))


def test_a_run_that_may_not_be_written_is_scored_and_the_score_not_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdistill_cli.evaluate._may_write", lambda folder: False)
    theirs = write(tmp_path / "theirs.parquet", {"text": TEXTS, "stars": STARS * 10})
    out = said(capsys, str(run), "--file", str(theirs))
    assert f"file-theirs: accuracy {results(run)['score']:.4f}" in out
    assert "may not be written: new scores of it are not kept" in " ".join(out.split())
    assert not list(run.glob("evaluations/file-theirs*"))


def test_files_of_one_name_do_not_replace_each_others_scores(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        write(tmp_path / folder / "test.parquet", {"text": TEXTS[n::3], "stars": [stars] * 10})
        for n, (folder, stars) in enumerate((("a", "1"), ("b", "2")))
    )
    said(capsys, str(run), "--file", str(first))
    with pytest.raises(UserError, match=rf"score on another file, {first}\. .* --name test-2"):
        evaluate([str(run), "--file", str(second)])
    assert "file-test-2: accuracy" in said(capsys, str(run), "--file", str(second), "--name", "test-2")
    assert {place.stem for place in (run / "evaluations").glob("file-test*.json")} == {"file-test", "file-test-2"}


def test_a_task_of_ones_own_is_found(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "mine.yaml").write_text(
        "defaults:\n  - /base/task@_here_\n  - _self_\nname: mine\ntext: text\nlabel: stars\nlabels: ['1', '2', '3']\n"
    )
    write(tmp_path / "data" / "mine" / "validation.parquet", {"text": TEXTS, "stars": STARS * 10})
    words = ("--tasks", "mine", "--config-dir", str(tmp_path / "conf"), f"paths.data={tmp_path}/data")
    assert f"mine: accuracy {results(run)['score']:.4f} (30 examples)" in said(capsys, str(run), *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--tasks", "custom"), "--tasks: custom has no data by itself"),
        ((), "say what the runs are to be scored on: --tasks scitail,snli or --file"),
        (("--tasks", "scitial"), "Did you mean 'scitail'"),
        (("--tasks", "mine", "--config-dir", "nowhere"), "no such folder"),
        (("--file", "nowhere.csv"), "no file .*nowhere.csv"),
        (("--tasks", "scitail", "--label", "stars"), "--label is said of a --file"),
        (("--tasks", "scitail", "--name", "mine"), "--name is said of a --file"),
    ],
)
def test_what_cannot_be_scored_is_refused(words: tuple[str, ...], expected: str, run: Path) -> None:
    with pytest.raises(UserError, match=expected):
        evaluate([str(run), *words])


# --- eval_tasks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scitail", "task=scitail: there is no validation split"),
        ("synth_similarity", "eval_tasks=synth_similarity: custom is classification, synth_similarity is regression"),
        ("synth_entailment", "eval_tasks=synth_entailment: the labels entailment, not_entailment are none of"),
    ],
)
def test_a_task_that_no_model_could_be_scored_on_is_refused_before_training(
    name: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected):
        experiment.run(settings(tmp_path, f"eval_tasks={name}", "task.label_map={}"))
    assert not list((tmp_path / "outputs").glob("custom/*/*/*/metrics.jsonl"))


def test_one_task_needs_no_brackets() -> None:
    asked = [composed(f"eval_tasks={word}").eval_tasks for word in ("scitail", "[scitail,snli]", "[]", "null")]
    with pytest.raises(UserError, match=r"runtime\.diagnostics=5: allowed are gradients"):
        diagnostics_of(5)
    assert [eval_tasks_of(names) for names in asked] == [["scitail"], ["scitail", "snli"], [], []]
    with pytest.raises(UserError, match="allowed are names of tasks"):
        eval_tasks_of(3)
