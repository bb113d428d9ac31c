"""The tokens of a split, made in parts: gathered in memory, or kept in files and mapped.

<place>/{tokens.bin,segments.bin,offsets.bin,about.json}
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.lease import missing

TYPES = {"tokens": np.int32, "segments": np.int8, "offsets": np.int64}


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
    with missing(place) as folder:
        if folder is not None:
            _write(folder, make())
    about = read_json(place / "about.json")
    assert about is not None
    arrays = {name: np.memmap(place / f"{name}.bin", dtype=TYPES[name], mode="r") for name in about["arrays"]}
    return Tokens(arrays["tokens"], arrays.get("segments"), arrays["offsets"], about["truncated"], about["uncut"])


def _write(folder: Path, parts: Iterator[TokenPart]) -> None:
    names, total, truncated, uncut = ["tokens", "offsets"], 0, 0, 0
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in TYPES}
        files["offsets"].write(np.zeros(1, TYPES["offsets"]).tobytes())
        for part in parts:
            files["tokens"].write(part.tokens.tobytes())
            if part.segments is not None:
                names = list(TYPES)
                files["segments"].write(part.segments.tobytes())
            files["offsets"].write((total + part.lengths.cumsum()).tobytes())
            total += int(part.lengths.sum())
            truncated += part.truncated
            uncut = max(uncut, part.uncut)
    write_json(folder / "about.json", {"arrays": names, "truncated": truncated, "uncut": uncut})
