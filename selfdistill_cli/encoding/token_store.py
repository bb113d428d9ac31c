"""The tokens of a split: gathered in memory, or kept in files and mapped.

<place>/{tokens.bin,segments.bin,offsets.bin,about.json}     of texts, made in parts
<place>/{prompts.bin,prompts_offsets.bin, … ,about.json}      of prompts and answers
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import new_folder, read_json, write_json
from selfdistill_cli.system.lease import held

log = logging.getLogger(__name__)

Numbers = dict[str, int]
Kept = tuple[dict[str, np.ndarray], Numbers]

TYPES = {"tokens": np.int32, "segments": np.int8, "offsets": np.int64}


@contextlib.contextmanager
def unchanged(tokenizer: Any) -> Iterator[None]:
    """Set a fast tokenizer's truncation and padding back: a call changes them, and they are saved with the model."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    before = (backend.truncation, backend.padding) if backend else (None, None)
    yield
    if backend:
        backend.enable_truncation(**before[0]) if before[0] else backend.no_truncation()
        backend.enable_padding(**before[1]) if before[1] else backend.no_padding()


def place_below(folder: Path | None, tokenizer: Any, *determined_by: object) -> Path | None:
    """Where tokens are kept of a split that has this `folder`: by the tokenizer's content and what else determines them.

    None, so nowhere, without a folder, or with a slow tokenizer, which cannot say what it is.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if folder is None or backend is None:
        return None
    with unchanged(tokenizer):  # what earlier calls set is no part of what a tokenizer is
        backend.no_truncation()
        backend.no_padding()
        content = f"{type(tokenizer).__name__} {determined_by} {tokenizer.special_tokens_map} {backend.to_str()}"
    return folder / "tokens" / hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TokenPart:
    """Some examples in tokens, one after the other."""

    tokens: np.ndarray
    """int32."""
    segments: np.ndarray | None
    """int8 token type numbers, if the model takes any."""
    lengths: np.ndarray
    """int64, tokens of each example."""
    truncated: int
    """How many were cut."""
    uncut: int
    """Tokens of the longest before any was cut."""


@dataclass(frozen=True)
class Tokens:
    """All examples of a split in tokens: example i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: np.ndarray
    segments: np.ndarray | None
    offsets: np.ndarray
    truncated: int
    uncut: int


def gathered_tokens(parts: Iterable[TokenPart]) -> Tokens:
    """All parts in memory."""
    found = list(parts)
    segments = [part.segments for part in found if part.segments is not None]
    return Tokens(
        np.concatenate([part.tokens for part in found]),
        np.concatenate(segments) if segments else None,
        np.concatenate([[0], *(part.lengths for part in found)]).cumsum(),
        sum(part.truncated for part in found),
        max(part.uncut for part in found),
    )


def kept_tokens(place: Path, make: Callable[[], Iterator[TokenPart]]) -> Tokens:
    """What `make` gives, mapped from the folder `place`; `make` is asked only if nobody kept it there before."""
    arrays, numbers = _kept(place, lambda folder: _write_parts(folder, make()))
    return Tokens(arrays["tokens"], arrays.get("segments"), arrays["offsets"], numbers["truncated"], numbers["uncut"])


def kept_arrays(place: Path, make: Callable[[], tuple[Mapping[str, np.ndarray], Numbers]]) -> Kept:
    """Arrays by name, and numbers beside them, as `make` gives them; the arrays are mapped from the folder `place`.

    `make` is asked only if nobody kept them there before.
    """

    def write(folder: Path) -> None:
        arrays, numbers = make()
        for name, array in arrays.items():
            (folder / f"{name}.bin").write_bytes(array.tobytes())
        _describe(folder, {name: (array.dtype.name, len(array)) for name, array in arrays.items()}, numbers)

    return _kept(place, write)


def _kept(place: Path, write: Callable[[Path], None]) -> Kept:
    """What `write` puts into a folder, from `place`. One process writes, others that want it wait."""
    with held(place.with_suffix(".lock")):
        about = _whole(place)
        if about is None:
            if place.exists():
                log.warning("%s is damaged: these tokens are made anew", place)
            with new_folder(place) as beside:
                write(beside)
            about = _whole(place)
    assert about is not None
    arrays = {
        name: np.memmap(place / f"{name}.bin", dtype=kind, mode="r") if length else np.zeros(0, kind)
        for name, (kind, length) in about["arrays"].items()
    }
    return arrays, about["numbers"]


def _whole(place: Path) -> dict[str, Any] | None:
    """What about.json says, if it is there and the arrays are as long as it says."""
    try:
        about = read_json(place / "about.json")
        sizes = {name: np.dtype(kind).itemsize * length for name, (kind, length) in (about or {})["arrays"].items()}
        right = all((place / f"{name}.bin").stat().st_size == size for name, size in sizes.items())
    except (UserError, OSError, KeyError, AttributeError):  # no such folder, or of an earlier version
        return None
    return about if right else None


def _describe(folder: Path, arrays: Mapping[str, tuple[str, int]], numbers: Numbers) -> None:
    write_json(folder / "about.json", {"arrays": arrays, "numbers": numbers})


def _write_parts(folder: Path, parts: Iterator[TokenPart]) -> None:
    lengths, truncated, uncut = dict.fromkeys(TYPES, 0), 0, 0
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in TYPES}

        def put(name: str, values: np.ndarray) -> None:
            files[name].write(values.astype(TYPES[name], copy=False).tobytes())
            lengths[name] += len(values)

        put("offsets", np.zeros(1))
        for part in parts:
            put("offsets", lengths["tokens"] + part.lengths.cumsum())
            put("tokens", part.tokens)
            if part.segments is not None:
                put("segments", part.segments)
            truncated += part.truncated
            uncut = max(uncut, part.uncut)
    # A model without token types has none of any token.
    arrays = {name: (np.dtype(TYPES[name]).name, length) for name, length in lengths.items() if length}
    _describe(folder, arrays, {"truncated": truncated, "uncut": uncut})
