"""Texts as token numbers: the form in which the engine takes examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selfdistill_cli.encoding.token_store import TokenPart, gathered_tokens, kept_tokens, place_below, unchanged
from selfdistill_cli.errors import UserError
from selfdistill_cli.models.concatenated import model_inputs
from selfdistill_cli.models.masks import padding_known
from selfdistill_cli.tasks.prepared import ROWS_AT_ONCE
from selfdistill_cli.tasks.split import Split

ASKED_FOR_LENGTH = 16
"""How many of the examples that are cut are tokenized whole, to know how long the longest is."""


@dataclass(frozen=True)
class Padding:
    """How a tokenizer fills short rows."""

    side: str
    token: int
    segment: int


@dataclass(frozen=True)
class LabelledExamples:
    """Encoded examples of one split: all tokens in one flat array, so that a million rows cost no objects."""

    tokens: np.ndarray
    """int32, all examples one after the other."""
    segments: np.ndarray | None
    """Token type numbers, like `tokens`; None if the model takes none."""
    offsets: np.ndarray
    """int64 [N + 1]: example i is tokens[offsets[i]:offsets[i + 1]]."""
    labels: np.ndarray
    """[N], class numbers (int64) or floats (float32)."""
    padding: Padding
    truncated: int
    """How many examples were cut to the largest length."""
    uncut: int = 0
    """Tokens of the longest example before it was cut."""
    weights: np.ndarray | None = None
    """How much each counts in training [N], float32 of mean 1."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each example [N]."""
        return np.diff(self.offsets)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return int(self.lengths.max())

    def digest(self) -> str:
        """SHA-256 of the token numbers and their partition into examples."""
        sha = hashlib.sha256(self.tokens.data)
        sha.update(self.offsets.data)
        return sha.hexdigest()

    def collate(self, rows: np.ndarray, width_multiple: int = 1) -> dict[str, Tensor]:
        """Model inputs of these examples [m], padded to the longest of them or a little more: each [m, longest].

        A width is a multiple of `width_multiple`, but never above the longest example of the split.
        """
        lengths = self.lengths[rows]
        longest = min(-(-int(lengths.max()) // width_multiple) * width_multiple, self.longest)
        places = np.arange(longest)
        if self.padding.side == "left":
            places = places - (longest - lengths)[:, None]
        real = (places >= 0) & (places < lengths[:, None])
        source = np.where(real, self.offsets[rows][:, None] + places, 0)
        inputs = {
            "input_ids": np.where(real, self.tokens[source], self.padding.token),
            "attention_mask": real,
        }
        if self.segments is not None:
            inputs["token_type_ids"] = np.where(real, self.segments[source], self.padding.segment)
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in inputs.items()}

    def forward(self, model: nn.Module, batch: dict[str, Tensor], device: torch.device) -> Tensor:
        """Logits of collated examples: [m, C], or [m] if the model has a single output (regression)."""
        inputs = model_inputs(model, batch, device)
        with padding_known(batch["attention_mask"], device):
            logits: Tensor = model(**inputs).logits
        return logits.squeeze(-1) if logits.shape[-1] == 1 else logits


def encode(tokenizer: Any, split: Split, max_length: int) -> LabelledExamples:
    """Tokenize a split's texts (and second texts), cutting each example to `max_length` tokens.

    The tokens of a split that has a folder are kept there and mapped into memory: made once, they are there the next
    time. Raises `UserError` if the model takes fewer tokens, or its tokenizer has nothing to fill rows with.
    """
    if max_length > tokenizer.model_max_length:
        raise UserError(f"task.max_length={max_length}: this model takes at most {tokenizer.model_max_length} tokens.")
    if tokenizer.pad_token_id is None:
        raise UserError("This model's tokenizer has no padding token, so examples cannot be put into batches.")
    texts, pairs = split.texts, split.pairs
    joined = pairs is not None and not separates_pairs(tokenizer)

    def make() -> Iterator[TokenPart]:
        for begin in range(0, len(texts), ROWS_AT_ONCE):
            part = slice(begin, begin + ROWS_AT_ONCE)
            seconds = None if pairs is None else list(pairs[part])
            yield _tokenized(tokenizer, list(texts[part]), seconds, max_length, joined)

    place = place_below(split.folder, tokenizer, max_length, *(["longest first"] if joined else []))
    tokens = kept_tokens(place, make) if place else gathered_tokens(make())
    lengths = np.diff(tokens.offsets)
    if len(lengths) and not lengths.min():
        raise UserError(
            f"{split.name}, row {int(split.rows[lengths.argmin()])}: the text has no tokens, so there is nothing to read. "
            "task.missing=drop leaves blank rows out."
        )
    # A decoder reads its last real token, wherever that is, but many count positions from the row's beginning.
    side = "right" if tokenizer.cls_token_id is None else tokenizer.padding_side
    return LabelledExamples(
        tokens=tokens.tokens,
        segments=tokens.segments,
        offsets=tokens.offsets,
        labels=split.labels,
        padding=Padding(side, tokenizer.pad_token_id, tokenizer.pad_token_type_id),
        truncated=tokens.truncated,
        uncut=tokens.uncut,
    )


def _tokenized(tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int, joined: bool) -> TokenPart:
    """joined: second texts stand behind the first ones, behind a line's end."""
    firsts: list[str] | None = None
    if pairs is not None and joined:
        firsts, texts = texts, [f"{text}\n{pair}" for text, pair in zip(texts, pairs, strict=True)]
        pairs = None
    with unchanged(tokenizer):
        encoded = tokenizer(texts, pairs, truncation=True, max_length=max_length, return_attention_mask=False)
        cut = [row for row, encoding in enumerate(encoded.encodings or []) if encoding.overflowing]
        uncut = _longest(tokenizer, texts, pairs, cut)
        ids = encoded["input_ids"]
        if firsts is not None and cut:
            both = [(firsts[row], texts[row]) for row in cut]
            for row, tokens in zip(cut, _longer_cut(tokenizer, both, max_length), strict=True):
                ids[row] = tokens
    size = sum(map(len, ids))
    return TokenPart(
        tokens=flat_tokens(ids, np.int32, size),
        segments=flat_tokens(encoded["token_type_ids"], np.int8, size) if "token_type_ids" in encoded else None,
        lengths=np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)),
        truncated=len(cut),
        uncut=max(uncut, *map(len, ids), 0),
    )


def _longer_cut(tokenizer: Any, rows: list[tuple[str, str]], max_length: int) -> Iterator[list[int]]:
    """Tokens of texts with a second one behind a line's end, as pairs are cut (`longest_first`): the longer part loses.

    Of a fast tokenizer, which says where tokens stand in the text; another one cuts at the end. rows: the first text, and
    both. Where their end is cut, the line's end stays at the second's beginning; where their beginning is, at the first's
    end.
    """
    left = tokenizer.truncation_side == "left"
    whole = tokenizer([both for _, both in rows], return_attention_mask=False, verbose=False)
    for (first, _), encoding in zip(rows, whole.encodings, strict=True):
        special = np.array(encoding.special_tokens_mask, dtype=bool)
        behind = np.array([stop for _, stop in encoding.offsets]) > len(first) + left
        parts = [np.flatnonzero(~special & ~behind), np.flatnonzero(~special & behind)]
        shorter = min(map(len, parts))
        room = max_length - int(special.sum())
        least = min(shorter, room // 2)
        sizes = (least, room - least) if len(parts[0]) == shorter else (room - least, least)
        kept = [part[len(part) - size :] if left else part[:size] for part, size in zip(parts, sizes, strict=True)]
        places = np.sort(np.concatenate([np.flatnonzero(special), *kept]))
        yield np.array(encoding.ids)[places].tolist()


def _longest(tokenizer: Any, texts: list[str], pairs: list[str] | None, cut: list[int]) -> int:
    """Tokens of the longest of the examples that were cut: of those with the most characters, all cannot be asked."""
    sizes = {row: len(texts[row]) + (0 if pairs is None else len(pairs[row])) for row in cut}
    rows = sorted(sizes, key=lambda row: -sizes[row])[:ASKED_FOR_LENGTH]
    if not rows:
        return 0
    of_pairs = None if pairs is None else [pairs[row] for row in rows]
    whole = tokenizer([texts[row] for row in rows], of_pairs, return_attention_mask=False, verbose=False)
    return max(map(len, whole["input_ids"]))


def separates_pairs(tokenizer: Any) -> bool:
    """Whether the tokenizer marks where the second text begins; most of decoders' do not."""
    return tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False)


def offsets_of(rows: list[list[int]]) -> np.ndarray:
    """Where each row begins when all stand one after the other, and where the last ends: int64 [N + 1]."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return offsets


def flat_tokens(rows: list[list[int]], dtype: Any, size: int) -> np.ndarray:
    """All rows one after the other: [size]."""
    return np.fromiter((value for row in rows for value in row), dtype=dtype, count=size)
