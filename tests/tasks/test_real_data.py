"""The real benchmarks, where they are at hand: counts, labels and texts as the papers' tasks have them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.tasks.test_data import load

DATA = Path(os.environ.get("SDRUN_DATA", REPOSITORY.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not (DATA / "rte").is_dir(), reason="the real data is not at hand (SDRUN_DATA names its folder)"
)

EXPECTED = {
    "rte": (2490, 277, 2),
    "cola": (8551, 1043, 2),
    "sst2": (67349, 872, 2),
    "wnli": (635, 71, 2),
    "stsb": (5749, 1500, 0),
    "cb": (250, 56, 3),
    "copa": (400, 100, 2),
    "wic": (5428, 638, 2),
    "wsc": (554, 104, 2),
    "axb": (2490, 1104, 2),
    "multirc": (8020, 4848, 2),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_benchmark_loads_whole(name: str) -> None:
    train, validation, labels = EXPECTED[name]
    task = load(f"task={name}", data=DATA)
    assert (len(task.train), len(task.validation[0]), len(task.label_names)) == (train, validation, labels)
    assert all(task.train.texts)
    if labels:
        assert set(np.unique(task.train.labels)) == set(range(labels))


def test_boolq_and_qnli_in_their_cut_forms() -> None:
    assert len(load("task=boolq", data=DATA / "fewglue").train) == 24
    assert len(load("task=qnli", data=DATA / "devcut").train) == 4463


def test_fewglue_multirc_whose_idx_is_a_plain_number() -> None:
    task = load("task=multirc", data=DATA / "fewglue")
    assert len(task.train) == 115
    assert task.validation[0].groups is not None
