"""Text files as lines: encoding by its mark or as the task says, .gz, every end of line as it stands."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from selfdistill_cli.errors import UserError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEAD = 2**16
"""Bytes that are looked at before a file is read."""


class Lines(NamedTuple):
    """A text that is open for reading, line by line; ends of lines are kept."""

    stream: IO[str]
    head: str
    """Its beginning."""
    notes: tuple[str, ...]


@contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if path.suffix.lower() != ".gz":
            yield file
        else:
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield cast(IO[bytes], decompressed)


@contextmanager
def open_lines(path: Path, encoding: str | None) -> Iterator[Lines]:
    """Open a text. Raises `UserError`, also from within the block, where bytes are not of the encoding."""
    with _open_bytes(path) as file:
        head = file.read(HEAD)
    marked = next((name for mark, name in MARKS if head.startswith(mark)), None)
    used = _known(encoding) if encoding else marked or "utf-8"
    if marked is None and encoding is None and b"\0" in head[:4]:
        wide = "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
        raise UserError(f"{path} is not UTF-8: every other byte is zero, as in UTF-16. task.encoding={wide} reads it.")
    if marked is not None and used.startswith(marked.removesuffix("-sig")):
        used = marked  # which takes the mark off
    beginning = codecs.getincrementaldecoder(used)(errors="replace").decode(head)
    # Split at \n alone, so that a carriage return inside of a text stays; old Macintosh files have only these.
    newline = "\r" if "\r" in beginning and "\n" not in beginning and len(head) < HEAD else "\n"
    notes = () if used == "utf-8" else (f"encoding {'UTF-8 with a mark' if used == 'utf-8-sig' else used}",)
    if not used.startswith("utf") and _is_utf8(path):
        notes = (f"encoding {used}, although it is UTF-8 throughout",)
    try:
        with _open_bytes(path) as file, io.TextIOWrapper(file, encoding=used, newline=newline) as stream:
            yield Lines(stream, beginning, notes)
    except UnicodeError as error:
        raise _undecodable(path, used, error) from error


def _is_utf8(path: Path) -> bool:
    """Whether all of a file is UTF-8, and not ASCII alone: bytes of another encoding hardly ever are."""
    decoder, ascii_alone = codecs.getincrementaldecoder("utf-8")(), True
    with _open_bytes(path) as file:
        try:
            while part := file.read(HEAD):
                ascii_alone = decoder.decode(part).isascii() and ascii_alone
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return not ascii_alone


def _known(encoding: str) -> str:
    try:
        "a".encode(encoding)  # what is no encoding of texts (hex, rot13) is found by lookup, and refused here
        return codecs.lookup(encoding).name
    except LookupError:
        raise UserError(
            f"task.encoding={encoding}: there is no such encoding. Usual ones are utf-8, utf-16, latin-1, cp1252, "
            "gb18030, shift_jis."
        ) from None


def _undecodable(path: Path, encoding: str, error: UnicodeError) -> UserError:
    if encoding not in ("utf-8", "utf-8-sig"):
        return UserError(f"{path} is not in {encoding} ({error}): give another task.encoding, or save it as UTF-8.")
    with _open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as found:
                return UserError(
                    f"{path}, line {number}: byte {line[found.start]:#04x} is not UTF-8. Save the file as UTF-8, or "
                    "name its encoding: task.encoding=cp1252 (Windows, western Europe), latin-1, gb18030, shift_jis."
                )
    return UserError(f"{path} is not UTF-8: {error}.")
