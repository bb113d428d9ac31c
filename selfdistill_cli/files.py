"""Writing that a crash cannot tear: beside the target, flushed to the disk, then renamed into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into a message that names the place.

    safetensors and pyarrow report the operating system's error in their own exceptions, as text.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if full or any(words in str(error) for words in ("No space left", "File too large", "quota exceeded")):
            raise UserError(
                f"The disk is full: {path} could not be written. What was there before is intact; "
                "free some space and give the same command again."
            ) from error
        if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)):
            raise UserError(
                f"{path} cannot be written: {error.strerror}. paths.outputs=<folder> names another."
            ) from error
        raise


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Fill a file beside `path`; it takes the place of `path` when the block ends without an error."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            yield beside
            sync(beside)
            beside.replace(path)
            sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. Raises `UserError` if the disk is full."""
    with new_file(path) as beside:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path`; it takes the place of `path` when the block ends without an error."""
    with disk_errors(path):
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            for file in beside.rglob("*"):
                if file.is_file():
                    sync(file)
            shutil.rmtree(path, ignore_errors=True)
            beside.replace(path)
            sync(path.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
