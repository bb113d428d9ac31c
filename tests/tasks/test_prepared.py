"""Large tasks are kept on the disk: the same examples as in memory, read again only when the source changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfdistill_cli.encoding import labelled
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import load_task
from selfdistill_cli.models import embedded
from selfdistill_cli.system import files
from selfdistill_cli.tasks import Split, TaskData, data, making, sources
from tests.helpers.runs import composed

ROWS = 23


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task is kept, in parts of five rows."""
    monkeypatch.setattr(data, "KEPT_FROM_BYTES", 0)
    monkeypatch.setattr(files, "REMEMBERED_FROM_BYTES", 0)
    for module in (making, labelled):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 5)


def write_rows(path: Path, rows: int = ROWS, **changes: Any) -> None:
    written = [
        {
            "text": f"text {i} " + "x" * (i % 7),
            "other": f"other {i}",
            "label": "ab"[i % 2],
            "score": i / 7,
            "answer": f"{i}",
        }
        | {name: value for name, value in changes.items() if i == 17}
        for i in range(rows)
    ]
    path.write_text("\n".join(map(json.dumps, written)) + "\n")


KINDS = {
    "classification": ["task.text_pair=other", "task.group=other", "task.metrics=[accuracy,exact_match]"],
    "held out": ["task.weight=score"],
    "regression": ["task.label=score", "task.kind=regression"],
    "generation": ["task.kind=generation", "task.text='Q: {text}'", "task.answer=answer", "task.references='{answer}'"],
    "subset": ["task.train_examples=9", "task.validation_examples=3"],
    "selected": ["task.selection=held_out", "task.selection_share=0.3"],
    "selected from a subset": ["task.selection=held_out", "task.selection_share=0.3", "task.train_examples=9"],
    "fold": ["task.folds=4", "task.fold=2", "task.selection=held_out", "task.selection_share=0.2"],
}


def load(folder: Path, kind: str, cache: Path | None) -> TaskData:
    overrides = ["task=custom", f"task.path={folder}/rows.jsonl", "task.text=text", "task.label=label", *KINDS[kind]]
    if kind == "classification":
        overrides.append(f"task.validation_path={folder}/rows.jsonl")
    if kind in ("selected", "fold"):
        overrides.append(f"task.test_path={folder}/rows.jsonl")
    return load_task(composed(*overrides).task, "", 0, cache)


def splits(task: TaskData) -> list[Split]:
    beside = [split for split in (task.selection, task.test) if split is not None]
    assert len(beside) == ("held_out" in task.settings.selection) + (task.settings.test_path is not None)
    return [task.train, *task.validation, *beside]


@pytest.mark.parametrize("kind", KINDS)
def test_kept_examples_are_those_in_memory(kind: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    memory = load(tmp_path, kind, None)
    for _ in range(2):  # written, then found
        kept = load(tmp_path, kind, tmp_path / "cache")
        assert (kept.kind, kept.label_names, kept.fingerprint) == (memory.kind, memory.label_names, memory.fingerprint)
        assert kept.summary == memory.summary
        for ours, theirs in zip(splits(kept), splits(memory), strict=True):
            assert ours.name == theirs.name
            assert ours.labels.dtype == theirs.labels.dtype
            for name in ("texts", "pairs", "labels", "rows", "groups", "answers", "references", "choices", "weights"):
                a, b = getattr(ours, name), getattr(theirs, name)
                assert (a is None) == (b is None), name
                assert a is None or list(a) == list(b), name
                assert a is None or len(a) == len(theirs)
                assert a is None or list(a[3:1]) == []
                assert a is None or a[-1] == b[-1]


def test_the_source_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows.jsonl")
    first = load(tmp_path, "held out", tmp_path / "cache")
    files._file_digest.cache_clear()  # as in another process

    def fail(path: Path) -> Any:
        raise AssertionError(path)

    monkeypatch.setattr(sources, "read_table", fail)
    monkeypatch.setattr(files, "sha256", fail)
    again = load(tmp_path, "held out", tmp_path / "cache")
    assert list(again.train.texts) == list(first.train.texts)


def test_a_changed_source_is_read_anew(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    before = load(tmp_path, "held out", tmp_path / "cache")
    write_rows(tmp_path / "rows.jsonl", rows=ROWS + 2)
    after = load(tmp_path, "held out", tmp_path / "cache")
    assert len(after.train) + len(after.validation[0]) == ROWS + 2
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"text": None}, "held out", r"row 17 \(counted from 0\): column 'text' is empty"),
        ({"score": float("nan")}, "regression", r"row 17 \(counted from 0\): column 'score' is empty or NA"),
        ({"answer": " "}, "generation", r"row 17 \(counted from 0\): column 'answer' is empty"),
    ],
)
def test_a_bad_row_is_named_by_its_place_in_the_source_and_nothing_is_kept(
    changes: dict[str, Any], kind: str, message: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", **changes)
    with pytest.raises(UserError, match=message):
        load(tmp_path, kind, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "tasks").glob("*/*.arrow"))


def test_kept_tokens_are_those_in_memory_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows.jsonl")
    memory, kept = (load(tmp_path, "classification", cache) for cache in (None, tmp_path / "cache"))
    tokenizer = embedded.trained_tokenizer("tiny_bert", kept, 200)
    assert tokenizer.get_vocab() == embedded.trained_tokenizer("tiny_bert", memory, 200).get_vocab()
    expected = labelled.encode(tokenizer, memory.train, max_length=7)
    assert 0 < expected.truncated < ROWS

    def same(found: Any) -> bool:
        arrays = all(np.array_equal(getattr(found, n), getattr(expected, n)) for n in ("tokens", "segments", "offsets"))
        return arrays and found.truncated == expected.truncated and found.digest() == expected.digest()

    assert same(labelled.encode(tokenizer, kept.train, max_length=7))
    monkeypatch.setattr(labelled, "_tokenized", None)  # no longer callable
    monkeypatch.setattr(embedded, "_trained", None)
    kept = load(tmp_path, "classification", tmp_path / "cache")
    tokenizer = embedded.trained_tokenizer("tiny_bert", kept, 200)
    found = labelled.encode(tokenizer, kept.train, max_length=7)
    assert same(found)
    assert isinstance(found.tokens, np.memmap)
    assert torch_equal(found.collate(np.array([1, 20])), expected.collate(np.array([1, 20])))
    with pytest.raises(TypeError):  # another length is another cutting
        labelled.encode(tokenizer, kept.train, max_length=6)


def torch_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
