"""Fingerprints of data, weights and tokenizer: what a run began with is what it goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import BertWordPieceTokenizer
from transformers import AutoTokenizer, BertTokenizerFast

from selfdistill_cli.errors import UserError
from selfdistill_cli.models.loading import tokenizer_digest
from selfdistill_cli.runs.directory import RunDirectory
from tests.helpers.runs import composed

FINGERPRINTS = {"data": "one", "weights": "one", "tokenizer": "one"}


@pytest.mark.parametrize("changed", ["data", "weights", "tokenizer"])
def test_a_run_is_not_gone_on_with_once_a_fingerprint_changed(changed: str, tmp_path: Path) -> None:
    cfg = composed(f"paths.outputs={tmp_path}")
    begun = RunDirectory(cfg).begin(cfg, FINGERPRINTS)
    RunDirectory(cfg).require_same(FINGERPRINTS)
    assert RunDirectory(cfg).begin(cfg, FINGERPRINTS) == begun
    with pytest.raises(UserError, match=f"begun with other {changed} under the same settings"):
        RunDirectory(cfg).require_same(FINGERPRINTS | {changed: "another"})


def test_what_an_earlier_version_took_no_fingerprint_of_is_not_compared(tmp_path: Path) -> None:
    cfg = composed(f"paths.outputs={tmp_path}")
    RunDirectory(cfg).begin(cfg, {"data": "one", "weights": "one"})
    RunDirectory(cfg).require_same(FINGERPRINTS)


def test_a_tokenizer_s_fingerprint_follows_its_rules_and_not_how_it_was_called(tmp_path: Path) -> None:
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"])}

    def made(lowercase: bool) -> Any:
        BertWordPieceTokenizer(vocab=words, lowercase=lowercase).save(str(tmp_path / "tokenizer.json"))
        return BertTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), do_lower_case=lowercase)

    one, other = made(lowercase=True), made(lowercase=False)
    digest = tokenizer_digest(one)
    one(["good"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_digest(one) == digest
    one.save_pretrained(tmp_path / "saved")
    assert tokenizer_digest(AutoTokenizer.from_pretrained(tmp_path / "saved")) == digest
    assert tokenizer_digest(other) != digest
