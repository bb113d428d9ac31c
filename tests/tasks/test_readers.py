"""A file that cannot be read is named, with what is wrong with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.task_files import write
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


def test_a_folder_with_the_name_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").mkdir()
    words = refused(*CUSTOM, f"task.path={tmp_path}/reviews.csv")
    assert words == f"{tmp_path}/reviews.csv is a folder: name the file in it."
    (tmp_path / "rte" / "train.csv").mkdir(parents=True)
    assert refused("task=rte", data=tmp_path) == f"{tmp_path}/rte/train.csv is a folder: name the file in it."


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


def test_a_validation_file_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", REVIEWS)
    words = refused("task=rte", f"task.validation_path={path}")
    assert f"task.validation_path={path} needs task.path=<file to train on>" in words


def test_an_exception_without_words_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert "(TimeoutError)" in refused("task=rte", f"task.hub.path={tmp_path}", data=tmp_path / "nothing")
