"""What is held out to select on, and folds: stratified, the same for every seed, and nothing of them is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from selfdistill_cli.config.checks import check
from selfdistill_cli.errors import UserError
from selfdistill_cli.tasks import Split, TaskData
from selfdistill_cli.tasks.partition import fold_rows, selection_rows, units
from tests.helpers.runs import composed
from tests.helpers.task_files import load, load_table, write


def split(texts: list[str], pairs: list[str] | None = None, groups: list[str] | None = None) -> Split:
    numbers = np.arange(len(texts))
    return Split(
        "train", "train", texts, pairs, labels=np.zeros(len(texts), dtype=np.int64), rows=numbers, groups=groups
    )


def shown(*splits: Split) -> set[tuple[str, str]]:
    """What the model is shown of the examples of these splits."""
    return {pair for one in splits for pair in zip(one.texts, one.pairs or [""] * len(one), strict=True)}


def test_the_same_texts_and_the_same_group_are_one_unit() -> None:
    assert units(split(list("abcab"))).tolist() == [0, 1, 2, 0, 1]
    assert units(split(list("aaab"), list("xyxx"))).tolist() == [0, 1, 0, 3]
    # b stands in both groups, which makes one unit of them; d is alone.
    assert units(split(list("abbcd"), groups=list("11223"))).tolist() == [0, 0, 0, 0, 4]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_parts_have_no_unit_in_common_and_are_the_whole(data: st.DataObject) -> None:
    size = data.draw(st.integers(12, 60))
    texts = data.draw(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=size, max_size=size))
    texts[:2] = "ab"
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    of = units(split(texts))
    parts = [selection_rows(labels, of, 0.5, classes=False)]
    folds = min(3, len(set(texts)))
    parts += [fold_rows(labels, of, folds, fold) for fold in range(folds)]
    assert sorted(row for _, held_out in parts[1:] for row in held_out) == list(range(size))
    for trained, held_out in parts:
        assert sorted([*trained, *held_out]) == list(range(size))
        assert not {texts[row] for row in trained} & {texts[row] for row in held_out}


def test_a_tenth_of_each_class_is_held_out() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    trained, held_out = selection_rows(labels, np.arange(1000), 0.1, classes=True)
    assert np.bincount(labels[held_out]).tolist() == [50, 30, 20]
    assert len(trained) == 900


def test_classes_stay_in_training_also_where_one_text_holds_all_of_a_class() -> None:
    texts = [f"t{i}" for i in range(38)] + ["twice", "twice"]
    labels = np.array([i % 2 for i in range(38)] + [0, 2])  # class 2 stands beside class 0, in one unit
    for share in (0.1, 0.5, 0.9):
        trained, held_out = selection_rows(labels, units(split(texts)), share, classes=True)
        assert set(labels[trained]) == {0, 1, 2}
        assert set(labels[held_out]) == {0, 1}


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_are_as_balanced_as_those_of_scikit_learn(folds: int) -> None:
    labels = np.random.default_rng(0).choice(3, size=101, p=[0.6, 0.3, 0.1])
    ours = [fold_rows(labels, np.arange(101), folds, fold, classes=True)[1] for fold in range(folds)]
    theirs = [held_out for _, held_out in StratifiedKFold(folds).split(labels, labels)]

    def counts(parts: list[np.ndarray]) -> list[list[int]]:
        return [sorted(np.bincount(labels[part], minlength=3)[c] for part in parts) for c in range(3)]

    assert counts(ours) == counts(theirs)
    assert max(map(len, ours)) - min(map(len, ours)) <= 1


def test_the_only_example_of_a_class_is_in_no_fold() -> None:
    labels = np.array([0] * 6 + [1] * 6 + [2])
    held_out = [row for fold in range(3) for row in fold_rows(labels, np.arange(13), 3, fold, classes=True)[1]]
    assert sorted(held_out) == list(range(12))
    with pytest.raises(UserError, match="only 12 examples can be dealt out"):
        fold_rows(labels, np.arange(13), 13, 0, classes=True)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], list(range(20))])
def test_where_nothing_would_be_held_out_it_is_said(labels: list[int]) -> None:
    with pytest.raises(UserError, match=r"task.selection=held_out: of \d+ training examples, task.selection_share=0.1"):
        selection_rows(np.array(labels), np.arange(len(labels)), 0.1, classes=True)


# --- whole tasks ---------------------------------------------------------------------------------

ROWS: dict[str, list[Any]] = {
    "text": [f"text {i // 2 if i < 20 else i}" for i in range(100)],  # the first twenty are ten texts, twice each
    "label": ["ab"[i % 2] for i in range(100)],
    "score": [i / 7 for i in range(100)],
}
HELD_OUT: dict[str, Any] = {"selection": "held_out", "selection_share": 0.2}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label": "score", "kind": "regression"},
        {"kind": "generation", "answer": "label"},
        {"train_examples": 40},
        {"folds": 4, "fold": 3},
    ],
    ids=str,
)
def test_nothing_of_the_held_out_part_is_trained_on_whatever_the_seed(changes: dict[str, Any], tmp_path: Path) -> None:
    seeds = [load_table(ROWS, tmp_path, **HELD_OUT, **changes, seed=seed) for seed in (0, 1)]
    for task in seeds:
        assert task.selection is not None
        assert not shown(task.train) & shown(task.selection)
        assert (task.selection.name, task.selection.role) == ("selection", "selection")
        used = changes.get("train_examples", 100 - len(task.validation[0]))
        assert len(task.train) + len(task.selection) == used
        assert len(task.selection) == pytest.approx(0.2 * used, abs=4)
    same = list(seeds[0].selection.rows) == list(seeds[1].selection.rows)  # type: ignore[union-attr]
    assert same == ("train_examples" not in changes)


def test_what_selects_and_what_is_reported_are_different_examples_of_the_task(tmp_path: Path) -> None:
    task = load_table(ROWS, tmp_path, **HELD_OUT)
    assert task.while_training.validation == [task.selection]
    assert {name: [one.name for one in end.validation] for name, end in task.at_the_end.items()} == {
        "validation": ["validation"]
    }
    usual = load_table(ROWS, tmp_path)
    assert usual.while_training is usual
    assert usual.at_the_end == {}


def test_noise_and_weights_stay_out_of_what_selects(tmp_path: Path) -> None:
    clean = load_table(ROWS, tmp_path, **HELD_OUT, weight="score")
    noisy = load_table(ROWS, tmp_path, **HELD_OUT, weight="score", label_noise=0.5)
    assert noisy.selection is not None
    assert clean.selection is not None
    assert noisy.selection.labels.tolist() == clean.selection.labels.tolist()
    assert noisy.selection.weights is None
    assert noisy.train.clean_labels is not None
    assert (noisy.train.labels != noisy.train.clean_labels).sum() == round(0.5 * len(noisy.train))


def test_folds_of_a_file_are_validated_on_in_turn(tmp_path: Path) -> None:
    tasks = [load_table(ROWS, tmp_path, folds=4, fold=fold) for fold in range(4)]
    assert sorted(row for task in tasks for row in task.validation[0].rows) == list(range(100))
    for task in tasks:
        assert not shown(task.train) & shown(task.validation[0])
    assert "fold 2 of 4, counted from 0 (" in tasks[2].summary


def test_a_fifth_of_the_groups_is_held_out_whole(tmp_path: Path) -> None:
    """Scores of groups (`exact_match` of multirc) are of whole ones."""
    groups = [f"g{i % 20}" for i in range(100)]
    task = load_table({**ROWS, "of": groups}, tmp_path, group="of", metrics=["accuracy", "exact_match"])
    inside, outside = ({groups[row] for row in part.rows} for part in (task.validation[0], task.train))
    assert len(inside) == 4
    assert not inside & outside
    with pytest.raises(UserError, match=r"task.group=of: 4 groups are too few to hold out a fifth"):
        load_table(
            {**ROWS, "text": [f"t{i}" for i in range(100)], "of": [f"g{i % 4}" for i in range(100)]},
            tmp_path / "few",
            group="of",
            metrics=["accuracy", "exact_match"],
        )


@pytest.mark.parametrize("kind", ["classification", "multiple_choice"])
@pytest.mark.parametrize(
    "how",
    [{}, {"folds": 4, "fold": 1}, {"selection": "held_out", "selection_share": 0.2}],
    ids=["fifth", "fold", "share"],
)
def test_groups_stay_on_one_side_whatever_is_scored(kind: str, how: dict[str, Any], tmp_path: Path) -> None:
    groups = [f"g{i % 20}" for i in range(100)]
    columns = {**ROWS, "text": [f"t{i}" for i in range(100)], "of": groups}
    if kind == "multiple_choice":
        columns |= {"label": [i % 3 for i in range(100)], "options": [["a", "b", "c"]] * 100}
        how = how | {"choices": "options"}
    task = load_table(columns, tmp_path, kind=kind, group="of", **how)
    assert "exact_match" not in task.metrics
    parts = [part for part in (task.train, task.validation[0], task.selection) if part is not None]
    sides = [{groups[row] for row in part.rows} for part in parts]
    assert sum(map(len, sides)) == len(set(groups))
    assert sum(map(len, parts)) == 100


def test_a_test_file_is_read_with_the_training_files_labels(tmp_path: Path) -> None:
    test = write(tmp_path / "later.csv", {"text": ["x", "y"], "label": ["b", "a"]})
    task = load_table(ROWS, tmp_path, test_path=str(test), validation_examples=1)
    assert task.test is not None
    assert (task.test.texts, task.test.labels.tolist(), task.test.role) == (["x"], [1], "test")
    assert len(task.validation[0]) == 1
    assert list(task.at_the_end) == ["test"]
    assert "2 rows of" in task.summary
    without = load_table(ROWS, tmp_path)
    assert task.fingerprint != without.fingerprint
    assert len(task.train) == len(without.train)


def test_a_labelled_test_split_of_the_data_folder(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"sentence1": list("abcdef"), "sentence2": list("ghijkl"), "label": [0, 1] * 3}
    for name in ("train", "validation", "test"):
        write(tmp_path / "rte" / f"{name}.parquet", columns)
    task = load("task=rte", "task.test=test", data=tmp_path)
    assert task.test is not None
    assert task.test.texts == list("abcdef")
    write(tmp_path / "rte" / "test.parquet", columns | {"label": [-1] * 6})
    with pytest.raises(UserError, match="carries no labels"):
        load("task=rte", "task.test=test", data=tmp_path)


def test_a_task_that_is_scored_on_a_test_set_selects_on_a_part_of_training(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = {"question": [f"{name} {i}" for i in range(20)], "answer": [f"It is.\n#### {i}" for i in range(20)]}
        write(tmp_path / "gsm8k" / f"{name}.parquet", rows)
    task: TaskData = load("task=gsm8k", data=tmp_path)
    assert task.selection is not None
    assert (len(task.train), len(task.selection), len(task.validation[0])) == (18, 2, 20)
    assert shown(task.train, task.selection) == {(f"Question: train {i}\nAnswer:", "") for i in range(20)}


CUSTOM = ("task=custom", "task.path=rows.csv", "task.text=text")


def test_a_file_of_ones_own_in_place_of_a_benchmarks_is_no_test_set() -> None:
    check(composed("task=gsm8k", "task.path=mine.jsonl", "task.selection=validation", "model=gpt2"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("task=gsm8k", "task.selection=validation", "model=gpt2"), "must not choose the epoch. Take task.selection=held_out"),
        (("task=rte", "task.selection=heldout"), "allowed are validation, held_out"),
        (("task=rte", "task.selection_share=0"), "must be greater than 0"),
        (("task=rte", "task.selection_share=1"), "must be less than 1"),
        (("task=rte", "task.folds=5"), "give it as task.path=<file>"),
        ((*CUSTOM, "task.validation_path=v.csv", "task.folds=5"), "without task.validation_path"),
        ((*CUSTOM, "task.folds=5", "task.fold=5"), "they count from 0 to 4"),
        ((*CUSTOM, "task.fold=2"), "task.fold=2 needs task.folds"),
        ((*CUSTOM, "task.folds=1"), "must be at least 2"),
        ((*CUSTOM, "task.test=test"), "For a file of your own: task.test_path"),
        (("task=rte", "task.test=test", "task.test_path=t.csv"), "name one test set"),
        (("task=gsm8k", "task.test=test", "model=gpt2"), "would be scored twice"),
        (("task=gsm8k", "task.test_path=t.jsonl", "model=gpt2"), "both would be called test"),
        ((*CUSTOM, "task.test_path="), "task.test_path= names nothing"),
        ((*CUSTOM, "task.validation_path='  '"), "task.validation_path= names nothing"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(composed(*overrides))


def test_a_test_set_may_be_reported_where_nothing_is_chosen() -> None:
    check(composed("task=gsm8k", "task.selection=validation", "schedule.keep=last", "model=gpt2"))
    check(composed("task=gsm8k", "task.selection=validation", "task.validation_path=mine.jsonl", "model=gpt2"))
    check(composed("task=gsm8k", "task.path=mine.jsonl", "task.test_path=later.jsonl", "model=gpt2"))
