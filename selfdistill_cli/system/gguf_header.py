"""What a GGUF file says of itself, read without any package: its metadata, its tensors' shapes, types and places.

Numbers in a damaged header send other readers past the file's end, where they find nothing and go on for ever. Here
nothing is read beyond it, so that whoever asks first can give such a file to anyone.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import UserError

INSTEAD = "Name the folder or Hub id of the same model instead: model.name=<folder or Hub id>."
"""What to do where a file cannot be read."""
MAGIC = b"GGUF"
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of metadata that are numbers, and how `struct` calls them."""
STRING, ARRAY = 8, 9
MOST_DIMENSIONS = 4
ARCHITECTURE, TOKENIZER = "general.architecture", "tokenizer.ggml"


@dataclass(frozen=True)
class Tensor:
    """One of the file's, without its values."""

    name: str
    elements: int
    type: int
    """Its number in the format: gguf's `GGMLQuantizationType`."""
    start: int
    """Its first byte in the file."""


@dataclass(frozen=True)
class Header:
    """All that stands before the values."""

    metadata: dict[str, Any]
    """Numbers and texts by their names; of an array how long it is."""
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it: `llama`, `qwen2`."""
        return str(self.metadata[ARCHITECTURE])


class _PastTheEndError(Exception):
    """The file is shorter than its own numbers say."""


def read_header(file: Path) -> Header:
    """The header of a language model's GGUF file. Raises `UserError` if it is none, or damaged."""
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{file} is no GGUF file: it does not begin with the letters {MAGIC.decode()}.")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                header = _read(content)
            except (_PastTheEndError, ValueError) as error:
                raise damaged(file, str(error)) from error
    _require_language_model(file, header.metadata)
    return header


def _require_language_model(file: Path, metadata: dict[str, Any]) -> None:
    of_model = [f"{metadata.get(ARCHITECTURE)}.{size}" for size in ("block_count", "embedding_length")]
    needed = [ARCHITECTURE, *of_model, *(f"{TOKENIZER}.{part}" for part in ("model", "tokens"))]
    either = [f"{TOKENIZER}.{part}" for part in ("merges", "scores")]
    lacking = [name for name in needed if name not in metadata]
    if not lacking and not any(name in metadata for name in either):
        lacking = [" or ".join(either)]
    if lacking:
        raise UserError(
            f"{file} cannot be read as a language model with its tokenizer: its metadata lacks {lacking[0]}. {INSTEAD}"
        )


def damaged(file: Path, why: str) -> UserError:
    """What to say of a GGUF file whose parts contradict each other."""
    return UserError(f"{file} is damaged: {why}. Download it again, or make it anew.")


def require_whole(file: Path, header: Header, block_sizes: dict[int, tuple[int, int]]) -> None:
    """Raise `UserError` if the values of a tensor are not all there.

    block_sizes: for the number of each type, how many values a block has, and how many bytes.
    """
    size = file.stat().st_size
    for tensor in header.tensors:
        if tensor.type not in block_sizes:
            raise UserError(
                f"{file}: the tensor {tensor.name} is of type {tensor.type}, which the installed gguf does not know: the "
                "file is damaged, or newer than the package (pip install -U gguf)."
            )
        values, bytes_each = block_sizes[tensor.type]
        if tensor.elements % values:
            raise damaged(file, f"the {tensor.elements:,} values of {tensor.name} are no whole blocks of {values}")
        end = tensor.start + tensor.elements // values * bytes_each
        if end > size:
            raise damaged(file, f"{tensor.name} would end at byte {end:,}, and the file has {size:,}")


class _Reader:
    """Reads on from a place in the file."""

    def __init__(self, content: mmap.mmap, at: int, order: str) -> None:
        self.content, self.at, self.order = content, at, order

    def skip(self, length: int) -> int:
        """Where the next `length` bytes begin."""
        began, self.at = self.at, self.at + length
        if self.at > len(self.content):
            raise _PastTheEndError(f"its header would go on beyond its {len(self.content):,} bytes")
        return began

    def number(self, form: str) -> Any:
        began = self.skip(struct.calcsize("<" + form))
        return struct.unpack_from(self.order + form, self.content, began)[0]

    def text(self) -> str:
        length = self.number("Q")
        began = self.skip(length)
        try:
            return self.content[began : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"the text at byte {began:,} of its header is no UTF-8") from None

    def value(self) -> Any:
        kind = self.number("I")
        if kind != ARRAY:
            return self._one(kind)
        kind, length = self.number("I"), self.number("Q")
        if kind in NUMBERS:
            self.skip(length * struct.calcsize("<" + NUMBERS[kind]))
        elif kind == STRING:
            for _ in range(length):
                self.skip(self.number("Q"))
        else:
            raise ValueError(f"its metadata holds an array of the unknown type {kind}")
        return length

    def _one(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind not in NUMBERS:
            raise ValueError(f"its metadata holds a value of the unknown type {kind}")
        return self.number(NUMBERS[kind])


def _read(content: mmap.mmap) -> Header:
    reader = _Reader(content, len(MAGIC), "<")
    if not reader.number("I") & 0xFFFF:  # the version, written by a machine of the other order
        reader.order = ">"
    reader.at = len(MAGIC)
    version = reader.number("I")
    if version not in (2, 3):
        raise ValueError(f"its version of the format is {version}, and 2 and 3 are known")
    tensors, entries = reader.number("Q"), reader.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        name = reader.text()
        if name in metadata:
            raise ValueError(f"its metadata says {name!r} twice")
        metadata[name] = reader.value()
    found: dict[str, Tensor] = {}
    for _ in range(tensors):
        name, dimensions = reader.text(), reader.number("I")
        if name in found or dimensions > MOST_DIMENSIONS:
            raise ValueError(f"it names a tensor {name!r} twice, or with {dimensions:,} dimensions")
        elements = math.prod(reader.number("Q") for _ in range(dimensions))
        found[name] = Tensor(name, elements, reader.number("I"), reader.number("Q"))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0:
        raise ValueError(f"its general.alignment is {alignment}")
    began = -(-reader.at // alignment) * alignment
    return Header(metadata, tuple(Tensor(t.name, t.elements, t.type, began + t.start) for t in found.values()))
