"""Writing that a crash cannot tear: beside the target, flushed to the disk, then renamed into place. Digests of files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.fault_points import passing

REMEMBERED_FROM_BYTES = 2**20
"""Of a file whose digest is kept; smaller ones are read as fast."""


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


def require_writable(folder: Path) -> None:
    """Raise `UserError` if a folder named by --out cannot be made or written, before the work that ends there."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"--out {folder}: {there} is a file. --out names another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder}: {there} may not be written. --out names another place.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Fill a file beside `path`; it takes the place of `path` when the block ends without an error."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(path)
        try:
            yield beside
            sync(beside)
            passing(f"{path.name} written")
            beside.replace(path)
            sync(path.parent)
            passing(f"{path.name} in place")
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. Raises `UserError` if the disk is full."""
    with new_file(path) as beside:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        beside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The contents of a JSON file, or None if there is none. Raises `UserError` if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}). rerun=true in a command of this run alone starts it afresh."
        ) from error
    assert isinstance(content, dict)
    return content


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside `path`; it takes the place of `path` when the block ends without an error."""
    with disk_errors(path):
        beside = _beside(path)
        beside.mkdir(parents=True)
        try:
            yield beside
            for entry in [*beside.rglob("*"), beside]:
                sync(entry)
            passing(f"{path.name} written")
            # An older folder of the name is a damaged checkpoint or an unfinished run's model: no loss.
            shutil.rmtree(path, ignore_errors=True)
            passing(f"{path.name} removed")
            beside.replace(path)
            sync(path.parent)
            passing(f"{path.name} in place")
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A name of its own: processes of several machines may write the same target in a shared folder."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left half-written below `folder`; the caller holds the folder."""
    for entry in [*folder.glob(".*.partial"), *folder.glob("*/.*.partial")]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_digest(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file's bytes, remembered while size and time of change stay; of large files, in `cache` too."""
    status = path.stat()
    return _file_digest(path.absolute(), status.st_size, status.st_mtime_ns, cache)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, changed: int, cache: Path | None) -> str:
    if cache is None or size < REMEMBERED_FROM_BYTES:
        return sha256(path)
    known = cache / "digests" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    about = {"path": str(path), "size": size, "changed": changed}
    content = None
    with suppress(UserError):  # damaged: made anew
        content = read_json(known)
    if content is None or {name: content.get(name) for name in about} != about:
        content = {**about, "sha256": sha256(path)}
        with suppress(OSError, UserError):  # it is found again next time
            write_json(known, content)
    return str(content["sha256"])


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
