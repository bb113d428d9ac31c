"""Scores of a language model: of the answers that it writes, or of those that it finds likeliest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from selfdistill_cli.config.metrics import LOSS
from selfdistill_cli.encoding.answers import AnswerExamples
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.engine.runtime import Runtime
from selfdistill_cli.evaluation.answer_rules import RULES, is_right
from selfdistill_cli.evaluation.base import OnePass, label_table, prediction_table, require_finite
from selfdistill_cli.evaluation.decoding import Written, write_answers
from selfdistill_cli.evaluation.signal_quality import signal_quality
from selfdistill_cli.evaluation.writing_quality import writing_quality
from selfdistill_cli.losses.answers import AnswerLosses
from selfdistill_cli.tasks import Split, TaskData


class GenerationEvaluator:
    """The model writes, the answer is read off by the task's rule."""

    def __init__(
        self,
        task: TaskData,
        tokenizer: Any,
        validation: Sequence[AnswerExamples],
        losses: AnswerLosses,
        runtime: Runtime,
        seed: int,
    ) -> None:
        """`validation`: of each split, prompts with gold answers."""
        self.task = task
        self.tokenizer = tokenizer
        self.validation = validation
        self.losses = losses
        self.runtime = runtime
        self.seed = seed

    def scores(self, model: nn.Module) -> Scores:
        """The task's metrics of written answers, the mean loss of gold ones, and whether the signals of a gold answer
        tell that the written one is right. Where the loss is the only metric, nothing is written.
        """
        return self._scores(model)[0]

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """What was written, the answer in it, the acceptable ones, and whether it is one; a table a split."""
        return self._tables([self._write(model, examples) for examples in self.validation])

    def scored(self, model: nn.Module) -> tuple[Scores, list[pa.Table]]:
        """Both of the above, of the same texts."""
        scores, written = self._scores(model)
        return scores, self._tables(written) if written else self.predictions(model)

    def _scores(self, model: nn.Module) -> tuple[Scores, list[Written]]:
        """Scores, and what was written for them in each split."""
        from selfdistill_cli.evaluation.text_metrics import score_texts  # seconds to import

        found: dict[str, float] = {}
        of_gold = [self._nll_and_entropy(model, examples) for examples in self.validation]  # first: are they finite?
        of_first = {"writing/entropy": of_gold[0][1]}
        if set(self.task.metrics) == {LOSS}:  # no score reads what is written
            for split, (loss, _) in zip(self.task.validation, of_gold, strict=True):
                found |= split.named({"loss": loss})
            return Scores(found, self.task.metric, {}, writing=of_first), []
        written = [self._write(model, examples) for examples in self.validation]
        for split, (loss, _), answers in zip(self.task.validation, of_gold, written, strict=True):
            assert split.references is not None
            scores = score_texts(self.task.metrics, self.task.settings.answer_rule, answers.texts, split.references)
            found |= split.named(scores | {"loss": loss})
        correct = self._table(self.task.validation[0], written[0].texts)["correct"].to_numpy()
        quality = signal_quality(correct, self.signals(model, self.validation[0]))
        return Scores(found, self.task.metric, quality, writing=writing_quality(written[0]) | of_first), written

    def _tables(self, written: list[Written]) -> list[pa.Table]:
        return [self._table(split, of.texts) for split, of in zip(self.task.validation, written, strict=True)]

    def _nll_and_entropy(self, model: nn.Module, examples: AnswerExamples) -> tuple[float, float]:
        """Of gold answers, means over examples of means over tokens, in nats."""
        keep = self.losses.nll_and_entropy
        found = require_finite(self.runtime.predict(model, examples, lambda rows: keep(rows).cpu()))
        return float(found[:, 0].mean()), float(found[:, 1].mean())

    def signals(self, model: nn.Module, examples: AnswerExamples) -> dict[str, Tensor]:
        """u, d and the mean margin of the tokens, of each example's gold answer [N] each."""

        def keep(rows: Any) -> Tensor:
            u, d = self.losses.signals(rows, None, "gold")
            return torch.stack([u, d, self.losses.signals(rows, None, "margin")[1]], dim=-1).cpu()

        found = self.runtime.predict(model, examples, keep)
        return dict(zip(("uncertainty", "discrimination", "margin"), found.unbind(-1), strict=True))

    def _write(self, model: nn.Module, examples: AnswerExamples) -> Written:
        return write_answers(model, self.tokenizer, examples, self.task.settings.decoding, self.runtime, self.seed)

    def _table(self, split: Split, texts: list[str]) -> pa.Table:
        assert split.references is not None
        rule = RULES[self.task.settings.answer_rule]
        answers = [rule(text) for text in texts]
        accepted = [[rule(reference) for reference in references] for references in split.references]
        return prediction_table(
            split,
            text=texts,
            answer=pa.array(answers, pa.string()),
            references=pa.array(accepted, pa.list_(pa.string())),
            correct=[is_right(rule, text, golds) for text, golds in zip(texts, split.references, strict=True)],
        )


class MultipleChoiceEvaluator(OnePass[list[Tensor]]):
    """The answer with the largest mean log-likelihood of its tokens is taken."""

    def __init__(
        self, task: TaskData, validation: Sequence[AnswerExamples], losses: AnswerLosses, runtime: Runtime
    ) -> None:
        """`validation`: of each split, prompts with every choice in turn."""
        self.task = task
        self.validation = validation
        self.losses = losses
        self.runtime = runtime

    def _scores(self, predicted: list[list[Tensor]]) -> Scores:
        """The task's metrics of the choices, and the mean loss of the gold answers."""
        from selfdistill_cli.evaluation.metrics import score  # seconds to import

        found: dict[str, float] = {}
        for split, likelihoods in zip(self.task.validation, predicted, strict=True):
            scores = score(self.task, split, _best(likelihoods))
            gold = [of_row[label] for of_row, label in zip(likelihoods, split.labels, strict=True)]
            scores["loss"] = -float(torch.stack(gold).mean())
            found |= split.named(scores)
        return Scores(found, self.task.metric, signals={})

    def _tables(self, predicted: list[list[Tensor]]) -> list[pa.Table]:
        """Mean log-likelihoods of all choices, the prediction and the label; a table a split."""
        return [
            label_table(split, [of_row.tolist() for of_row in likelihoods], _best(likelihoods))
            for split, likelihoods in zip(self.task.validation, predicted, strict=True)
        ]

    def _predicted(self, model: nn.Module) -> list[list[Tensor]]:
        """Of each split and example, the mean log-likelihood of every choice's tokens."""
        found: list[list[Tensor]] = []
        for split, examples in zip(self.task.validation, self.validation, strict=True):
            assert split.choices is not None
            nll = require_finite(self.runtime.predict(model, examples, lambda rows: self.losses.nll(rows).cpu()))
            found.append(list(torch.split(-nll, [len(choices) for choices in split.choices])))
        return found


def _best(likelihoods: list[Tensor]) -> np.ndarray:
    return np.array([int(of_row.argmax()) for of_row in likelihoods])
