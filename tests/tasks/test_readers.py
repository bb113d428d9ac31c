"""A file that cannot be read is named, with what is wrong with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.task_files import load, write
from tests.tasks.test_data import CUSTOM, REVIEWS, refused, rte


def forbid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reading `path` fail as for somebody without the right to; root has every right, so this is not chmod."""
    opened = Path.open

    def refuse(self: Path, *more: Any, **named: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *more, **named)

    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("setting", ["task.path", "task.validation_path"])
def test_a_forbidden_file_of_the_users(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    other = write(tmp_path / "other.csv", REVIEWS)
    forbid(path, monkeypatch)
    others = {"task.path", "task.validation_path"} - {setting}
    words = refused(*CUSTOM, f"{setting}={path}", *(f"{name}={other}" for name in others))
    assert words == f"{path} cannot be read: Permission denied."


def test_a_forbidden_file_of_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rte(tmp_path) / "rte" / "validation.parquet"
    forbid(path, monkeypatch)
    assert refused("task=rte", data=tmp_path) == f"{path} cannot be read: Permission denied."


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 + ".csv")
    assert refused(*CUSTOM, f"task.path={path}") == f"{path} cannot be read: File name too long."


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").mkdir()
    words = refused(*CUSTOM, f"task.path={tmp_path}/reviews.csv")
    assert f"{tmp_path}/reviews.csv is a folder without a data file" in words
    (tmp_path / "rte" / "train.csv").mkdir(parents=True)
    assert f"{tmp_path}/rte/train.csv is a folder without" in refused("task=rte", data=tmp_path)


def test_a_parquet_file_that_broke_off_or_lost_a_part(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.parquet", REVIEWS)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4] + bytes(len(whole) - 50) + whole[-46:]):
        path.write_bytes(damaged)
        words = refused(*CUSTOM, f"task.path={path}")
        assert words.startswith(f"{path} cannot be read as parquet: ")
        assert "\n" not in words


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("body,stars,body\na,1,b\nc,2,d\n")
    assert "has 2 columns named 'body'" in refused(*CUSTOM, f"task.path={tmp_path}/twice.csv")


def test_a_validation_file_takes_the_place_of_a_benchmarks_split(tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", {"sentence1": ["mine"], "sentence2": ["own"], "label": ["not_entailment"]})
    task = load("task=rte", f"task.validation_path={path}", data=rte(tmp_path))
    assert task.train.texts == list("abcdef")
    assert [split.texts for split in task.validation] == [["mine"]]
    assert task.validation[0].labels.tolist() == [1]
    assert task.fingerprint != load("task=rte", data=tmp_path).fingerprint


@pytest.mark.parametrize("setting", ["path", "validation_path"])
def test_a_generated_task_reads_no_file_and_says_so(setting: str, tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    words = refused("task=synth_entailment", f"task.{setting}={path}", "task.text=body")
    assert f"task.{setting}={path}: task=synth_entailment generates its examples and reads no file" in words
    assert "task=custom task.path=" in words


def test_an_exception_without_words_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert "(TimeoutError)" in refused("task=rte", f"task.hub.path={tmp_path}", data=tmp_path / "nothing")
