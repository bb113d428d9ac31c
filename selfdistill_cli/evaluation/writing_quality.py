"""Does a model's writing collapse? What its answers are like, whether right or wrong."""

from __future__ import annotations

from itertools import pairwise

from selfdistill_cli.evaluation.decoding import Written


def writing_quality(written: Written) -> dict[str, float]:
    """Of N answers, each as `writing/<name>`:

    - `distinct_1`, `distinct_2`: different tokens, and pairs of neighbouring tokens, as a share of all that were written
      in all answers together (Li et al., arXiv 1510.03055); 0 where there are none;
    - `length`: mean number of tokens, the end not counted;
    - `empty`: share of answers without a letter, digit or sign;
    - `cut`: share of answers that did not end within `task.decoding.max_new_tokens`;
    - `repeated`: share of answers that were written word for word for an earlier example as well.
    """
    answers = len(written.texts)
    return {
        "writing/distinct_1": _distinct([(token,) for tokens in written.tokens for token in tokens]),
        "writing/distinct_2": _distinct([pair for tokens in written.tokens for pair in pairwise(tokens)]),
        "writing/length": sum(map(len, written.tokens)) / answers,
        "writing/empty": sum(not text.strip() for text in written.texts) / answers,
        "writing/cut": written.ended.count(False) / answers,
        "writing/repeated": 1 - len(set(written.texts)) / answers,
    }


def _distinct(grams: list[tuple[int, ...]]) -> float:
    return len(set(grams)) / len(grams) if grams else 0.0
