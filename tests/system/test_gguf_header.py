"""Headers of GGUF files: read as gguf's own reader reads them; no changed byte leads beyond the file or round for ever."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from selfdistill_cli.config.weights import readable
from selfdistill_cli.errors import UserError
from selfdistill_cli.system.gguf_header import read_header
from tests.models.test_gguf import WORDS, write_gguf

gguf = pytest.importorskip("gguf")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "own.gguf", quantized=True)
    return tmp_path / "own.gguf"


def test_it_is_what_the_package_reads(file: Path) -> None:
    header, theirs = read_header(file), gguf.GGUFReader(file)
    ours = [(t.name, t.elements, t.type, t.start) for t in header.tensors]
    assert ours == [(t.name, t.n_elements, int(t.tensor_type), t.data_offset) for t in theirs.tensors]
    assert sorted(header.metadata) == sorted(name for name in theirs.fields if not name.startswith("GGUF."))
    assert header.architecture == "llama"
    assert header.metadata["tokenizer.ggml.tokens"] == len(WORDS)
    assert header.metadata["llama.context_length"] == theirs.fields["llama.context_length"].contents()


def test_no_changed_byte_of_it_holds_anybody_up(file: Path) -> None:
    content = file.read_bytes()
    ends = min(tensor.start for tensor in read_header(file).tensors)
    said = []
    began = time.process_time()
    for at in range(0, ends, 3):
        file.write_bytes(content[:at] + bytes([content[at] ^ (0x01, 0x80)[at % 2]]) + content[at + 1 :])
        with contextlib.suppress(UserError):
            readable(file)
            continue
        said.append(at)
    assert len(said) > ends / 9
    assert time.process_time() - began < 30


def test_a_longer_array_than_the_file_is_refused_where_the_packages_reader_never_ends(file: Path) -> None:
    content = bytearray(file.read_bytes())
    name = b"tokenizer.ggml.tokens"
    length = content.index(name) + len(name) + 4 + 4  # behind the types of the value and of its elements
    content[length + 4] = 1  # 2**32 more
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"own\.gguf is damaged: its header would go on beyond .*Download it again"):
        read_header(file)


def test_every_cut_is_refused(file: Path) -> None:
    content = file.read_bytes()
    for length in (*range(0, 400, 7), len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match="is no GGUF file" if length < 4 else "is damaged: .*Download it again"):
            readable(file)
