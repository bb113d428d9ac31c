"""Files become examples; what does not fit is refused with the place and the allowed values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfdistill_cli import experiment
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import load_validation
from selfdistill_cli.tasks import TaskData
from tests.helpers.runs import composed
from tests.helpers.task_files import load, write


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


REVIEWS: dict[str, list[Any]] = {"body": [f"text, {i} “ü”" for i in range(40)], "stars": [i % 4 + 1 for i in range(40)]}
CUSTOM = ("task=custom", "task.text=body", "task.label=stars")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_an_own_file_in_every_format(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"reviews.{ending}", REVIEWS)
    task = load(*CUSTOM, f"task.path={path}")
    assert task.kind.name == "classification"
    assert task.label_names == ["1", "2", "3", "4"]
    assert len(task.train) == 32
    assert len(task.validation[0]) == 8
    texts = {*task.train.texts, *task.validation[0].texts}
    assert texts == set(REVIEWS["body"])
    assert task.train.pairs is None


def test_the_held_out_fifth_is_stratified_and_the_same_for_every_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    first, second = (load(*CUSTOM, f"task.path={path}", seed=seed) for seed in (0, 1))
    assert np.bincount(first.validation[0].labels).tolist() == [2, 2, 2, 2]
    assert first.validation[0].texts == second.validation[0].texts
    assert not set(first.train.texts) & set(first.validation[0].texts)


def test_an_own_validation_file(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    other = write(tmp_path / "later.jsonl", {"body": ["new"], "stars": [3]})
    task = load(*CUSTOM, f"task.path={path}", f"task.validation_path={other}")
    assert len(task.train) == 40
    assert task.validation[0].texts == ["new"]
    assert task.validation[0].labels.tolist() == [2]


def test_labels_in_words_are_taken_in_sorted_order(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"a": list("uvwxyz") * 5, "b": list("UVWXYZ") * 5, "y": ["no", "yes", "maybe"] * 10}
    path = write(tmp_path / "pairs.csv", columns)
    task = load("task=custom", f"task.path={path}", "task.text=a", "task.text_pair=b", "task.label=y")
    assert task.label_names == ["maybe", "no", "yes"]
    assert task.train.pairs is not None
    assert [text.upper() for text in task.train.texts] == task.train.pairs


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([i / 10 + 0.05 for i in range(40)], "regression"),
        ([i % 20 + 0.5 for i in range(40)], "classification"),  # 20 distinct fractional values are not more than 20
        ([float(i // 2) for i in range(40)], "classification"),  # whole numbers are not fractional
    ],
)
def test_many_fractional_numbers_mean_regression(labels: list[float], kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "scores.csv", {"body": REVIEWS["body"], "stars": labels})
    assert load(*CUSTOM, f"task.path={path}").kind.name == kind


def test_the_kind_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    task = load(*CUSTOM, f"task.path={path}", "task.kind=regression")
    assert task.kind.name == "regression"
    assert task.metrics == ["pearson", "spearman"]
    assert task.label_range == 3.0
    assert task.train.labels.dtype == np.float32


def rte(folder: Path, ending: str = "parquet", **changes: list[Any]) -> Path:
    columns: dict[str, list[Any]] = {
        "sentence1": list("abcdef"),
        "sentence2": list("ghijkl"),
        "label": [0, 1, 0, 1, 1, 1],
        "idx": list(range(6)),
    }
    for split in ("train", "validation"):
        write(folder / "rte" / f"{split}.{ending}", columns | changes)
    return folder


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_benchmark_from_the_data_folder(ending: str, tmp_path: Path) -> None:
    task = load("task=rte", data=rte(tmp_path, ending))
    assert task.label_names == ["entailment", "not_entailment"]
    assert task.train.texts == list("abcdef")
    assert task.train.labels.tolist() == [0, 1, 0, 1, 1, 1]
    assert task.metric == "accuracy"
    assert not task.synthetic


def test_label_names_are_as_good_as_numbers(tmp_path: Path) -> None:
    names = ["entailment", "not_entailment"] * 3
    assert load("task=rte", data=rte(tmp_path, "csv", label=names)).train.labels.tolist() == [0, 1] * 3


def test_templates_fill_in_columns(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "word": ["bank"],
        "sentence1": ["{a} bank"],
        "sentence2": ["the bank"],
        "label": [1],
    }
    for split in ("train", "validation"):
        write(tmp_path / "wic" / f"{split}.jsonl", columns)
    task = load("task=wic", data=tmp_path)
    assert task.train.texts == ["bank: {a} bank"]
    assert task.train.pairs == ["the bank"]


def test_both_validation_sets_of_mnli(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"premise": ["p"], "hypothesis": ["h"], "label": [2]}
    for split in ("train", "validation_matched", "validation_mismatched"):
        write(tmp_path / "mnli" / f"{split}.parquet", columns)
    assert [split.name for split in load("task=mnli", data=tmp_path).validation] == [
        "validation_matched",
        "validation_mismatched",
    ]


def test_diagnostic_sets_train_on_another_task(tmp_path: Path) -> None:
    rte(tmp_path)
    write(tmp_path / "axg" / "test.parquet", {"premise": ["p"], "hypothesis": ["h"], "label": [1]})
    task = load("task=axg", data=tmp_path)
    assert task.selection is not None  # a test set selects nothing
    assert sorted([*task.train.texts, *task.selection.texts]) == list("abcdef")
    assert task.validation[0].texts == ["p"]


def test_multirc_groups_answers_by_question(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "paragraph": ["p"] * 3,
        "question": ["q", "q", "r"],
        "answer": list("abc"),
        "label": [0, 1, 1],
    }
    for split in ("train", "validation"):
        write(tmp_path / "multirc" / f"{split}.parquet", columns)
    task = load("task=multirc", data=tmp_path)
    assert task.validation[0].groups == ["p q", "p q", "p r"]
    assert task.train.pairs == ["q a", "q b", "r c"]


def test_the_hub_is_asked_when_the_data_folder_has_nothing(tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "someone" / "reviews"
    for split in ("train", "validation"):
        path = write(hub / "data" / f"{split}-00000-of-00001.parquet", {"sentence": ["fine", "bad"], "label": [1, 0]})
        assert path.is_file()
    task = load("task=sst2", f"task.hub.path={hub}", "task.hub.config=null", data=tmp_path)
    assert task.train.texts == ["fine", "bad"]
    assert task.train.labels.tolist() == [1, 0]


def test_train_examples_is_a_seeded_stratified_subset(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "sentence": [str(i) for i in range(100)],
        "label": [int(i >= 80) for i in range(100)],
    }
    for split in ("train", "validation"):
        write(tmp_path / "sst2" / f"{split}.parquet", columns)
    first, again, other = (load("task=sst2", "task.train_examples=10", data=tmp_path, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.train.labels).tolist() == [8, 2]
    assert first.train.texts == again.train.texts
    assert first.train.texts != other.train.texts
    assert len(first.validation[0]) == 100


def test_a_regression_subset_keeps_the_distribution_of_the_labels(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).uniform(0, 5, 1000).round(3).tolist()
    for split in ("train", "validation"):
        write(
            tmp_path / "stsb" / f"{split}.parquet",
            {"sentence1": ["a"] * 1000, "sentence2": ["b"] * 1000, "label": scores},
        )
    subset = load("task=stsb", "task.train_examples=50", data=tmp_path).train.labels
    deciles = np.searchsorted(np.quantile(scores, np.arange(0.1, 1, 0.1)), subset)
    assert np.bincount(deciles, minlength=10).tolist() == [5] * 10


def test_the_fingerprint_changes_with_the_data(tmp_path: Path) -> None:
    before = load("task=rte", data=rte(tmp_path / "a")).fingerprint
    assert before == load("task=rte", data=rte(tmp_path / "b")).fingerprint
    assert before != load("task=rte", data=rte(tmp_path / "c", label=[1, 1, 1, 1, 1, 0])).fingerprint


def test_a_file_that_changes_during_a_sweep_is_read_anew(tmp_path: Path) -> None:
    """The next job has the key of what the file holds then, and so must it train on that."""
    file = tmp_path / "rows.csv"
    rows = [f"text {n},{n % 2}" for n in range(40)]
    words = (
        "task=custom",
        f"task.path={file}",
        "task.text=text",
        "task.label=label",
        f"paths.cache={tmp_path / 'cache'}",
    )
    sizes = []
    for count in (30, 40, 30):
        file.write_text("\n".join(["text,label", *rows[:count]]))
        task = experiment.task_data(composed(*words))
        sizes.append(len(task.train) + sum(map(len, task.validation)))
    assert sizes == [30, 40, 30]


# --- bad input -----------------------------------------------------------------------------------


def refused(*overrides: str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(*overrides, **more)
    return str(caught.value)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    words = refused("task=custom", f"task.path={path}", "task.text=boddy", "task.label=stars")
    assert "no column 'boddy'" in words
    assert "Did you mean 'body'?" in words


def test_an_unknown_label_is_named_with_its_row(tmp_path: Path) -> None:
    words = refused("task=rte", data=rte(tmp_path, label=[0, 1, 7, 0, 0, 1]))
    assert "row 2: unknown label 7" in words
    assert "entailment (0), not_entailment (1), by name or number" in words


def test_unlabelled_splits_are_recognised(tmp_path: Path) -> None:
    assert "carries no labels" in refused("task=rte", data=rte(tmp_path, label=[-1] * 6))


def test_a_validation_label_that_training_does_not_know(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    other = write(tmp_path / "later.csv", {"body": ["new"], "stars": [9]})
    assert "unknown label '9'" in refused(*CUSTOM, f"task.path={path}", f"task.validation_path={other}")


def test_an_empty_file_and_a_file_without_rows(tmp_path: Path) -> None:
    (tmp_path / "nothing.csv").write_text("")
    assert "is empty" in refused(*CUSTOM, f"task.path={tmp_path / 'nothing.csv'}")
    (tmp_path / "header.csv").write_text("body,stars\n")
    assert "at least 2" in refused(*CUSTOM, f"task.path={tmp_path / 'header.csv'}")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("body,stars\nfine,1\nschön,2\n".encode("latin1"))
    words = refused(*CUSTOM, f"task.path={tmp_path / 'latin.csv'}")
    assert "line 3: byte 0xf6 is not UTF-8" in words


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "reviews.csv", REVIEWS)
    assert "Did you mean 'reviews.csv'?" in refused(*CUSTOM, f"task.path={tmp_path / 'review.csv'}")


def test_a_damaged_file_and_an_unknown_format(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"not parquet at all")
    assert "cannot be read as parquet" in refused(*CUSTOM, f"task.path={tmp_path / 'broken.parquet'}")
    (tmp_path / "reviews.xlsx").write_bytes(b"x")
    assert "must be one of parquet, jsonl, csv, tsv, json, ndjson, arrow, txt" in refused(
        *CUSTOM, f"task.path={tmp_path / 'reviews.xlsx'}"
    )


def test_an_empty_cell_is_named_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.jsonl", {"body": ["a", None, "c"], "stars": [1, 2, 1]})
    assert "row 1 (counted from 0): column 'body' is empty; 1 of 3 rows has no text" in refused(
        *CUSTOM, f"task.path={path}"
    )


def test_regression_needs_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", {"body": ["a"] * 6, "stars": ["1", "2", "x", "1", "2", "1"]})
    assert "label 'x' is not a finite number" in refused(*CUSTOM, f"task.path={path}", "task.kind=regression")


def test_more_training_examples_than_there_are(tmp_path: Path) -> None:
    assert "has 6 examples" in refused("task=rte", "task.train_examples=7", data=rte(tmp_path))


def test_data_that_is_nowhere_names_the_three_ways_out(tmp_path: Path) -> None:
    words = refused("task=qqp", data=tmp_path)
    for part in ("SDRUN_DATA", "Hub's cache", "synth_entailment", str(tmp_path / "qqp" / "train")):
        assert part in words


def test_the_first_validation_examples_alone() -> None:
    task = load("task=synth_entailment", "task.validation_examples=7")
    whole = load("task=synth_entailment")
    assert task.validation[0].texts == whole.validation[0].texts[:7]
    assert len(task.train) == len(whole.train)


# --- the validation splits alone, for models of other tasks ---------------------------------------


def validation_of(*overrides: str, data: Path | str = "nowhere") -> TaskData:
    task = load_validation(composed(*overrides).task, str(data))
    assert len(task.train) == 0
    return task


def test_of_an_own_task_the_validation_file_is_scored_with_the_labels_of_the_training_file(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    other = write(tmp_path / "later.jsonl", {"body": ["new", "newer"], "stars": [3, 4]})
    task = validation_of(*CUSTOM, f"task.path={path}", f"task.validation_path={other}")
    assert [split.texts for split in task.validation] == [["new", "newer"]]
    assert task.label_names == ["1", "2", "3", "4"]
    assert task.validation[0].labels.tolist() == [2, 3]


def test_of_an_own_file_alone_the_same_fifth_is_scored_that_training_holds_out(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    trained, scored = load(*CUSTOM, f"task.path={path}"), validation_of(*CUSTOM, f"task.path={path}")
    assert len(scored.validation[0]) == 8
    assert scored.validation[0].name == "validation"
    assert scored.validation[0].texts == trained.validation[0].texts
    assert scored.fingerprint == trained.fingerprint


def test_an_own_validation_file_without_a_training_file_is_scored_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    scored = validation_of(*CUSTOM, f"task.validation_path={path}")
    assert scored.validation[0].texts == REVIEWS["body"]
    assert scored.fingerprint != load(*CUSTOM, f"task.path={path}").fingerprint


def test_only_the_first_validation_examples_are_scored(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    for words in ([*CUSTOM, f"task.validation_path={path}"], [*CUSTOM, f"task.path={path}"], ["task=synth_entailment"]):
        whole, first = validation_of(*words), validation_of(*words, "task.validation_examples=5")
        assert len(whole.validation[0]) > 5
        assert list(first.validation[0].texts) == list(whole.validation[0].texts[:5])


def test_a_benchmark_is_scored_without_its_training_split(tmp_path: Path) -> None:
    (rte(tmp_path) / "rte" / "train.parquet").unlink()
    assert validation_of("task=rte", data=tmp_path).validation[0].texts == list("abcdef")


def test_a_generated_task_is_scored_on_what_it_generates_for_validation() -> None:
    scored, trained = validation_of("task=synth_entailment"), load("task=synth_entailment")
    assert list(scored.validation[0].texts) == list(trained.validation[0].texts)


def test_lists_that_were_printed_as_an_array_are_refused_and_written_ones_read(tmp_path: Path) -> None:
    golds = [["Denver", "The Denver Broncos"], ["it's", 'an "inch"']]
    words = ("task=custom", "task.kind=generation", "task.text=q", "task.answer=a", "task.references=refs")
    columns: dict[str, list[Any]] = {"q": ["who", "what"], "a": ["Denver", "it's"]}
    for number, written in enumerate(([json.dumps(one) for one in golds], [str(one) for one in golds])):
        path = write(tmp_path / f"written{number}.csv", columns | {"refs": written})
        assert (
            load_validation(composed(*words, f"task.validation_path={path}").task, "x").validation[0].references
            == golds
        )
    for printed in (str(np.array(golds[1])), "['a' 'b' ... 'z']", "['a'\n 'b']"):
        path = write(tmp_path / "printed.csv", columns | {"refs": ["['Denver']", printed]})
        with pytest.raises(UserError, match=r"row 1: 'refs' holds .* without commas .* Write lists as JSON"):
            load_validation(composed(*words, f"task.validation_path={path}").task, "x")
    of_choices = ("task=custom", "task.kind=multiple_choice", "task.text=q", "task.choices=refs")
    path = write(tmp_path / "choices.csv", columns | {"label": [0, 1], "refs": ["['a', 'b']", "['a' 'b']"]})
    with pytest.raises(UserError, match=r"row 1: 'refs' holds .* without commas"):
        load_validation(composed(*of_choices, f"task.validation_path={path}").task, "x")
