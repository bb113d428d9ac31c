"""Scores of a language model: of the answers that it writes, or of those that it finds likeliest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from omegaconf import DictConfig
from torch import Tensor, nn

from selfdistill_cli.encoding.answers import AnswerExamples
from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.prediction import predict
from selfdistill_cli.engine.progress import Scores
from selfdistill_cli.evaluation.answer_rules import RULES
from selfdistill_cli.evaluation.decoding import write_answers
from selfdistill_cli.evaluation.predictions import label_table, prediction_table
from selfdistill_cli.evaluation.signal_quality import signal_quality
from selfdistill_cli.tasks import Split, TaskData


@dataclass(frozen=True)
class Setting:
    """What both evaluators know."""

    task: TaskData
    task_cfg: DictConfig
    examples: list[AnswerExamples]
    """Of each validation split: prompts with gold answers; in multiple choice, with every choice in turn."""
    terms: Any
    tokenizer: Any
    seed: int
    batching: Batching
    accelerator: Accelerator

    def losses(self, model: nn.Module, examples: AnswerExamples) -> Tensor:
        """Mean negative log-likelihood of each example's answer tokens, in nats [N]."""

        def keep(rows: Any) -> Tensor:
            return self.terms.hard(rows, rows.lengths).cpu()

        found: Tensor = predict(model, examples, self.batching, self.accelerator, keep)
        return found

    def signals(self, model: nn.Module, examples: AnswerExamples) -> dict[str, Tensor]:
        """u, d and the mean margin of the tokens, of each example's gold answer [N] each."""

        def keep(rows: Any) -> Tensor:
            u, d = self.terms.signals(rows, rows.lengths, "gold")
            return torch.stack([u, d, self.terms.signals(rows, rows.lengths, "margin")[1]], dim=-1).cpu()

        found = predict(model, examples, self.batching, self.accelerator, keep)
        return dict(zip(("uncertainty", "discrimination", "margin"), found.unbind(-1), strict=True))


class WritingEvaluator:
    """Generation: the model writes, the answer is read off by the task's rule."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def scores(self, model: nn.Module) -> Scores:
        """The task's metrics of written answers, the mean loss of gold ones, and whether the signals of a gold answer
        tell that the written one is right.
        """
        from selfdistill_cli.evaluation.text_metrics import score_texts  # seconds to import

        setting = self.setting
        found: dict[str, float] = {}
        written = [self._write(model, examples) for examples in setting.examples]
        for split, examples, texts in zip(setting.task.validation, setting.examples, written, strict=True):
            assert split.references is not None
            scores = score_texts(setting.task.metrics, setting.task_cfg.answer_rule, texts, split.references)
            scores["loss"] = float(setting.losses(model, examples).mean())
            found |= setting.task.named(split, scores)
        correct = self._table(setting.task.validation[0], written[0])["correct"].to_numpy()
        return Scores(found, signal_quality(correct, setting.signals(model, setting.examples[0])))

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """What was written, the answer in it, the acceptable ones, and whether it is one; a table a split."""
        setting = self.setting
        texts = [self._write(model, examples) for examples in setting.examples]
        return [self._table(split, written) for split, written in zip(setting.task.validation, texts, strict=True)]

    def _write(self, model: nn.Module, examples: AnswerExamples) -> list[str]:
        s = self.setting
        return write_answers(model, s.tokenizer, examples, s.task_cfg.decoding, s.seed, s.batching, s.accelerator)

    def _table(self, split: Split, texts: list[str]) -> pa.Table:
        assert split.references is not None
        rule = RULES[self.setting.task_cfg.answer_rule]
        answers = [rule(text) for text in texts]
        accepted = [[rule(reference) for reference in references] for references in split.references]
        return prediction_table(
            split,
            text=texts,
            answer=pa.array(answers, pa.string()),
            references=pa.array(accepted, pa.list_(pa.string())),
            correct=[a is not None and a in allowed for a, allowed in zip(answers, accepted, strict=True)],
        )


class ChoosingEvaluator:
    """Multiple choice: the answer with the largest mean log-likelihood of its tokens."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def scores(self, model: nn.Module) -> Scores:
        """The task's metrics of the choices, and the mean loss of the gold answers."""
        from selfdistill_cli.evaluation.metrics import score  # seconds to import

        setting = self.setting
        found: dict[str, float] = {}
        for split, likelihoods in zip(setting.task.validation, self._likelihoods(model), strict=True):
            scores = score(setting.task, split, _best(likelihoods))
            gold = [of_row[label] for of_row, label in zip(likelihoods, split.labels, strict=True)]
            scores["loss"] = -float(torch.stack(gold).mean())
            found |= setting.task.named(split, scores)
        return Scores(found, signals={})

    def predictions(self, model: nn.Module) -> list[pa.Table]:
        """Mean log-likelihoods of all choices, the prediction and the label; a table a split."""
        return [
            label_table(split, [of_row.tolist() for of_row in likelihoods], _best(likelihoods))
            for split, likelihoods in zip(self.setting.task.validation, self._likelihoods(model), strict=True)
        ]

    def _likelihoods(self, model: nn.Module) -> list[list[Tensor]]:
        """Of each split and example, the mean log-likelihood of every choice's tokens."""
        found: list[list[Tensor]] = []
        for split, examples in zip(self.setting.task.validation, self.setting.examples, strict=True):
            assert split.choices is not None
            losses = self.setting.losses(model, examples)
            found.append(list(torch.split(-losses, [len(choices) for choices in split.choices])))
        return found


def _best(likelihoods: list[Tensor]) -> np.ndarray:
    return np.array([int(of_row.argmax()) for of_row in likelihoods])
