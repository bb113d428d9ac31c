"""Models with random weights, whose tokenizers are trained on the task's training split: for tests and trials."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from selfdistill_cli.system.lease import missing
from selfdistill_cli.tasks import Split, TaskData
from selfdistill_cli.tasks.added import NO_ROW

EMBEDDED = {"tiny_bert": "bert", "tiny_llama": "llama", "tiny_t5": "t5"}
"""Name, and Hugging Face model type."""


def trained_tokenizer(name: str, task: TaskData, vocab_size: int) -> Any:
    """The tokenizer of an embedded model for this task; the same in every process."""
    if task.train.folder is None:
        return _trained(name, task, vocab_size)
    from transformers import AutoTokenizer

    kept = task.train.folder / "tokenizers" / f"{name}-{vocab_size}"
    with missing(kept) as folder:
        if folder is not None:
            _trained(name, task, vocab_size).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(kept)


def _trained(name: str, task: TaskData, vocab_size: int) -> Any:
    if name == "tiny_bert":
        return _word_pieces(task.train, vocab_size)
    return _byte_pairs(task.train, vocab_size, closes_texts=name == "tiny_t5")


def _texts(split: Split) -> Iterator[str]:
    """Everything that is written in a split, but for what joined it later: the start stays the same."""
    own = np.flatnonzero(split.rows != NO_ROW)
    if len(own) < len(split):
        split = split.take(own)
    yield from itertools.chain(split.texts, split.pairs or (), split.answers or ())
    yield from itertools.chain.from_iterable(split.choices or ())


def _byte_pairs(split: Split, vocab_size: int, closes_texts: bool) -> Any:
    """Byte-pair encoding over bytes, so that no text is unknown; digits one by one, as in LLaMA.

    `closes_texts`: every text ends with the end of sequence, as in T5.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(split), trainer)
    end = "</s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}" if closes_texts else "$A",
        pair=f"$A {end} $B {end}" if closes_texts else f"$A {end} $B",
        special_tokens=[(end, tokenizer.token_to_id(end))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=end, model_max_length=512, padding_side="right"
    )


def _word_pieces(split: Split, vocab_size: int) -> Any:
    """WordPiece, BERT's way."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    learner = BertWordPieceTokenizer(lowercase=True)
    characters = sorted(
        {c for text in _texts(split) for c in learner.normalizer.normalize_str(text) if not c.isspace()}
    )
    # The trainer numbers the pieces "##a", "##b" … in the order of a hash table, which differs from process
    # to process, and breaks ties by these numbers. Naming them beforehand, in order, takes that away.
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner.train_from_iterator(
        _texts(split),
        vocab_size=vocab_size,
        min_frequency=1,
        limit_alphabet=max(1, len(characters)),
        special_tokens=[*specials, *(f"##{c}" for c in characters)],
        show_progress=False,
    )
    trained = BertWordPieceTokenizer(vocab=learner.get_vocab(), lowercase=True)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer, do_lower_case=True, model_max_length=512)
