"""The labels that two tasks have in common: a model of one is scored on the other.

A task's `label_map` says which label of a coarser task each of its own is: SNLI's `neutral` and `contradiction` are
RTE's `not_entailment`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selfdistill_cli.engine.method import Examples
from selfdistill_cli.errors import UserError


def common_labels(
    data: Sequence[str], data_map: Mapping[str, str], model: Sequence[str], model_map: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """How the labels of the data [C] and of the model [M] are numbered in their common labels, and these labels.

    Labels of the same name are the same; else the finer side's map is used. They are numbered as the data's are, those
    that only the model has behind. Raises `UserError` if neither fits.
    """
    if set(data) <= set(model):
        coarse_data, coarse_model = list(data), list(model)
    elif {data_map.get(name, name) for name in data} <= set(model):
        coarse_data, coarse_model = [data_map.get(name, name) for name in data], list(model)
    elif {model_map.get(name, name) for name in model} == set(data):
        coarse_data, coarse_model = list(data), [model_map.get(name, name) for name in model]
    else:
        raise UserError(
            f"the labels {', '.join(data)} are none of the model's ({', '.join(model)}), and no label_map of either task "
            "makes them so. Give the task one: label_map: {own label: the other's label}."
        )
    names = list(dict.fromkeys([*coarse_data, *coarse_model]))  # F1 is of the scored task's class 1
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[n] for n in coarse_data]), np.array([numbers[n] for n in coarse_model]), names


def regrouped(logits: Tensor, groups: np.ndarray, count: int) -> Tensor:
    """Log-probabilities of `count` groups of classes, the sum of each group's. logits [N, M], groups [M] -> [N, count]."""
    log_p = logits.float().log_softmax(-1)
    columns = [log_p[:, np.flatnonzero(groups == number)] for number in range(count)]
    return torch.stack([column.logsumexp(-1) for column in columns], dim=-1)


@dataclass(frozen=True)
class RegroupedExamples:
    """Another task's encoded examples, whose predictions are over the labels that both tasks have in common."""

    examples: Examples
    labels: np.ndarray
    """Gold, numbered in the common labels [N]."""
    groups: np.ndarray
    """The common label of each of the model's classes [M]."""
    count: int
    """Of common labels."""
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example [N]."""
        return self.examples.lengths

    def collate(self, rows: np.ndarray, width_multiple: int) -> Any:
        """As the examples themselves are collated."""
        return self.examples.collate(rows, width_multiple)

    def forward(self, model: nn.Module, batch: Any, device: torch.device) -> Tensor:
        """Log-probabilities of the common labels [m, count]."""
        return regrouped(self.examples.forward(model, batch, device), self.groups, self.count)
