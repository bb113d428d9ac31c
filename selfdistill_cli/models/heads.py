"""The head of a classifier that is trained further: kept, its rows put in the order of the classes, or drawn anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class HeadChange:
    """What becomes of the last layer of a classifier whose classes are others than the task's, or in another order."""

    rows: list[int] | None
    """The rows to keep, in the order of the task's classes; None: all are drawn anew."""
    words: str
    """What happened, for the user."""


def head_change(config: Any, head: dict[str, Any]) -> HeadChange | None:
    """What the task's head (`Kind.head`) asks of a model with this configuration; None: its last layer stays as it is.

    Classes are known by their names. A model whose classes have no names (LABEL_0 …) and are as many as the task's is
    taken to have them in the task's order.
    """
    trained = any("SequenceClassification" in name for name in config.architectures or ())
    if not trained or not head:
        return None
    after = [str(name) for name in head.get("id2label", {}).values()]
    before = _class_names(config)
    size = len(after) or 1
    if before == after or (config.num_labels == size and all(name.startswith("LABEL_") for name in before)):
        return None
    if after and set(after) <= set(before):
        rows = [before.index(name) for name in after]
        left = [name for name in before if name not in after]
        words = f"its rows of {_shown(after)} are kept" + (f", without {_shown(left)}" if left else ", in this order")
        return HeadChange(rows, f"The model that this run starts from tells {_shown(before)} apart: {words}.")
    was = f"tells {_shown(before)} apart" if before else "gives one number"
    is_now = f"classes {_shown(after)}" if after else "a number"
    return HeadChange(
        None, f"The model that this run starts from {was}, this task has {is_now}: a new head is trained."
    )


def change_head(model: Any, model_class: Any, change: HeadChange, head: dict[str, Any]) -> list[str]:
    """Put `change` into effect, in place. Returns the parameters that are yet to be drawn: none if rows were kept."""
    size = len(head.get("id2label", ())) or 1
    last = _last_layer(model_class, model.config)
    for name in last:
        place, _, leaf = name.rpartition(".")
        module = model.get_submodule(place)
        old = getattr(module, leaf).detach()
        new = old.new_zeros(size, *old.shape[1:]) if change.rows is None else old[change.rows].clone()
        setattr(module, leaf, nn.Parameter(new))
        if hasattr(module, "out_features"):
            module.out_features = size
    model.config.update(head)
    model.num_labels = size
    return last if change.rows is None else []


def _last_layer(model_class: Any, config: Any) -> list[str]:
    """Names of the parameters that have a row for each class: those that grow when there is one class more."""
    shapes = []
    for size in (config.num_labels, config.num_labels + 1):
        sized = copy.deepcopy(config)
        sized.num_labels = size
        with torch.device("meta"):
            shapes.append({name: tensor.shape for name, tensor in model_class.from_config(sized).named_parameters()})
    return [name for name, shape in shapes[0].items() if shapes[1][name] != shape]


def _class_names(config: Any) -> list[str]:
    """Of a classifier; none of a regressor."""
    return [] if config.num_labels == 1 else [str(config.id2label[number]) for number in range(config.num_labels)]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" … ({len(names)} classes)" if len(names) > 8 else "")
