"""The real benchmarks, where they are at hand: counts, labels and texts as the papers' tasks have them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from selfdistill_cli.evaluation.answer_rules import RULES
from selfdistill_cli.evaluation.label_maps import common_labels
from selfdistill_cli.kinds import load_validation
from tests.helpers.runs import composed
from tests.helpers.task_files import load

DATA = Path(os.environ.get("SDRUN_DATA", "no real data"))
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
    trained = len(task.train) + len(task.selection or ())  # of a task whose other split is a test set, a part selects
    assert (trained, len(task.validation[0]), len(task.label_names)) == (train, validation, labels)
    assert all(task.train.texts)
    if labels:
        assert set(np.unique(task.train.labels)) == set(range(labels))


OTHER_TASKS = {
    # evaluated on by models of: task, validation examples
    "rte": {"scitail": 1304, "sick": 495, "snli": 9842, "adv_rte": 81, "axb": 1104},
    "sst2": {"mpqa": 10_606, "imdb_small": 245, "imdb_counterfactual": 245, "adv_sst2": 148},
    "qqp": {"quora": 10_000},
}


@pytest.mark.parametrize("trained_on", OTHER_TASKS)
def test_validation_sets_of_other_tasks_load_and_their_labels_are_the_models(trained_on: str) -> None:
    model = list(composed(f"task={trained_on}").task.labels)
    for name, examples in OTHER_TASKS[trained_on].items():
        cfg = composed(f"task={name}").task
        data = load_validation(cfg, str(DATA))
        assert (len(data.train), len(data.validation[0])) == (0, examples)
        gold, _, names = common_labels(data.label_names, cfg.label_map, model, {})
        assert set(names) == set(model)
        assert names == list(dict.fromkeys(cfg.label_map.get(label, label) for label in data.label_names))
        assert set(gold[data.validation[0].labels]) == {0, 1}


def test_boolq_and_qnli_in_their_cut_forms() -> None:
    assert len(load("task=boolq", data=DATA / "fewglue").train) == 24
    assert len(load("task=qnli", data=DATA / "devcut").train) == 4463


def test_fewglue_multirc_whose_idx_is_a_plain_number() -> None:
    task = load("task=multirc", data=DATA / "fewglue")
    assert len(task.train) == 115
    assert task.validation[0].groups is not None


ANSWERED = {
    # task: where, overrides, training and validation examples, the first validation answer by the task's rule
    "gsm8k": ("", [], 7473 - 747, 1319, "18"),  # a tenth selects
    "mathqa": ("", [], 3655, 505, None),
    "aqua": ("", ["task.train=validation", "task.validation=[test]"], 254, 254, "A"),
    "squad": ("devcut", [], 885, 305, None),
    "dialogsum": ("", ["task.train=validation", "task.validation=[test]"], 500, 1500, None),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_are_found_by_the_benchmarks_rule(name: str) -> None:
    where, overrides, train, validation, first = ANSWERED[name]
    task = load(f"task={name}", *overrides, data=DATA / where)
    split = task.validation[0]
    assert (task.kind.name, len(task.train), len(split)) == ("generation", train, validation)
    assert split.answers is not None
    assert split.references is not None
    rule = RULES[composed(f"task={name}").task.answer_rule]
    found = [[rule(reference) for reference in references] for references in split.references]
    assert all(answer is not None for answers in found for answer in answers)
    # What is learned leads to an answer that counts.
    assert np.mean([rule(a) in answers for a, answers in zip(split.answers, found, strict=True)]) > 0.99
    if first is not None:
        assert found[0] == [first]


def test_hellaswag_offers_four_endings() -> None:
    task = load("task=hellaswag", data=DATA / "devcut")
    assert (task.kind.name, len(task.train), len(task.validation[0])) == ("multiple_choice", 8042, 2000)
    assert task.train.choices is not None
    assert {len(choices) for choices in task.train.choices} == {4}
    assert set(np.unique(task.train.labels)) == {0, 1, 2, 3}
