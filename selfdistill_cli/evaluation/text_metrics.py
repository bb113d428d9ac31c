"""Metrics of generated texts against acceptable answers, as `evaluate.Metric` classes. Larger is better for all.

Like metrics.py, imported when the first score is wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf

from selfdistill_cli.config.metrics import LOSS
from selfdistill_cli.evaluation.answer_rules import RULES, is_right, normalized


class TextMetric(evaluate.Metric):
    """A metric over texts, each with one or more references; the best of these counts."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="predictions, references",
            features=Features({"predictions": Value("string"), "references": ListOf(Value("string"))}),
        )

    def of_pair(self, prediction: str, reference: str) -> float:
        """The score of one text against one reference."""
        raise NotImplementedError

    def of_example(self, prediction: str, references: list[str]) -> float:
        """The score of one text: the best over its references."""
        return max(self.of_pair(prediction, reference) for reference in references)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        each = [self.of_example(text, golds) for text, golds in zip(predictions, references, strict=True)]
        return {self.config_name: float(np.mean(each))}


class AnswerMatch(TextMetric):
    """Share of texts whose answer, read off by the task's rule, is that of a reference."""

    def __init__(self, rule: Callable[[str], str | None], **settings: Any) -> None:
        super().__init__(config_name="exact_match", **settings)
        self.rule = rule

    def of_example(self, prediction: str, references: list[str]) -> float:
        return float(is_right(self.rule, prediction, references))


class TokenF1(TextMetric):
    """SQuAD's F1: of the words of both texts, normalised. References without a word do not count beside others."""

    def of_example(self, prediction: str, references: list[str]) -> float:
        return super().of_example(prediction, [one for one in references if normalized(one)] or [""])

    def of_pair(self, prediction: str, reference: str) -> float:
        predicted, gold = ((normalized(text) or "").split() for text in (prediction, reference))
        if not predicted or not gold:
            return float(predicted == gold)
        shared = sum((Counter(predicted) & Counter(gold)).values())
        return 2 * shared / (len(predicted) + len(gold))


class Rouge(TextMetric):
    """ROUGE F-measure with Porter stemming, as google-research's rouge_score computes it."""

    def of_pair(self, prediction: str, reference: str) -> float:
        return float(_rouge_scorer(self.config_name).score(reference, prediction)[self.config_name].fmeasure)


@lru_cache(maxsize=8)
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True)


def score_texts(
    metrics: Sequence[str], rule: str, texts: list[str], references: Sequence[list[str]]
) -> dict[str, float]:
    """These metrics of generated texts [N]; `rule` names how exact_match reads an answer off a text."""
    scores: dict[str, float] = {}
    for name in metrics:
        if name == LOSS:  # of the gold answers: whoever asks has computed it
            continue
        metric: TextMetric
        if name == "exact_match":
            metric = AnswerMatch(RULES[rule], keep_in_memory=True)
        elif name == "f1":
            metric = TokenF1(config_name="f1", keep_in_memory=True)
        else:
            metric = Rouge(config_name=name, keep_in_memory=True)
        scores |= metric.compute(predictions=texts, references=references)
    return scores
