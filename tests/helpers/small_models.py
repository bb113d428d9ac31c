"""A task and settings to load small models for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from selfdistill_cli.kinds import KINDS
from selfdistill_cli.tasks import Split, TaskData

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 120,
}


def task(kind: str = "classification") -> TaskData:
    """Twenty sentences with labels of this kind; the training split is the validation split as well."""
    texts = [f"sentence number {i} about cats and dogs" for i in range(20)]
    labels = np.arange(20) % 3 if kind == "classification" else np.linspace(0, 5, 20, dtype=np.float32)
    split = Split("train", "train", texts, None, labels, np.arange(20))
    names = ["a", "b", "c"] if kind == "classification" else []
    return task_data(kind, names, split, "accuracy")


def task_data(kind: str, names: list[str], split: Split, metric: str) -> TaskData:
    """A task of one split, which is validated on as well."""
    validation = replace(split, name="validation", role="validation")
    settings = OmegaConf.create({"name": "t", "max_length": 32})
    return TaskData(
        settings, KINDS[kind], names, split, [validation], [metric], metric, "here", fingerprint="f", synthetic=False
    )


def settings(name: str, **changes: Any) -> Any:
    """Settings of a model as `conf/model/` gives them."""
    plain = {
        "dropout": None,
        "dtype": "float32",
        "lora": {"rank": None},
        "quantization": "none",
        "trust_remote_code": False,
        "config": {},
    }
    return OmegaConf.create({"name": name} | plain | changes)


def split_of(texts: list[str], pairs: list[str] | None = None) -> Split:
    """Texts, all of class 0."""
    rows = np.arange(len(texts))
    return Split("train", "train", texts, pairs, labels=np.zeros(len(texts), np.int64), rows=rows)
