"""Labels that two tasks have in common, label noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfdistill_cli.errors import UserError
from selfdistill_cli.evaluation.label_maps import RegroupedExamples, common_labels, regrouped
from selfdistill_cli.evaluation.labelled import decide
from selfdistill_cli.evaluation.metrics import score
from selfdistill_cli.kinds import load_validation
from selfdistill_cli.tasks.sampling import noisy_labels
from tests.helpers.runs import composed
from tests.helpers.task_files import write

TWO, THREE = ["entailment", "not_entailment"], ["entailment", "neutral", "contradiction"]
FINER = {"neutral": "not_entailment", "contradiction": "not_entailment"}


def test_equal_names_in_another_order_are_the_same_labels() -> None:
    data, model, names = common_labels(["b", "a"], {}, ["a", "b"], {})
    assert (data.tolist(), model.tolist(), names) == ([0, 1], [1, 0], ["b", "a"])
    data, model, names = common_labels(["c", "a"], {}, ["a", "b", "c"], {})
    assert (data.tolist(), model.tolist(), names) == ([0, 1], [1, 2, 0], ["c", "a", "b"])


def test_f1_is_of_class_one_of_the_scored_task(tmp_path: Path) -> None:
    said = ["yes"] * 5 + ["no"] * 4
    gold = ["yes"] * 3 + ["no"] * 2 + ["yes"] + ["no"] * 3  # of yes: 3 right, 2 too many, 1 missed
    path = write(tmp_path / "v.csv", {"text": [f"text {i}" for i in range(9)], "label": gold})
    columns = ("task=custom", f"task.validation_path={path}", "task.text=text", "task.metric=f1")
    task = load_validation(composed(*columns, "task.labels=[no,yes]").task, "nowhere")
    trained = replace(task, label_names=["yes", "no"])
    logits = torch.tensor([[2.0, 0.0] if word == "yes" else [0.0, 2.0] for word in said])
    shown, (examples,) = task.kind.on_labels_of(task, [task.validation[0]], trained)
    assert isinstance(examples, RegroupedExamples)
    predicted = regrouped(logits, examples.groups, examples.count)
    assert score(shown, shown.validation[0], decide(predicted))["f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))


def test_a_finer_task_is_mapped_onto_the_models_labels() -> None:
    data, model, names = common_labels(THREE, FINER, TWO, {})
    assert (data.tolist(), model.tolist(), names) == ([0, 1, 1], [0, 1], TWO)


def test_a_finer_model_is_scored_on_the_tasks_labels() -> None:
    data, model, names = common_labels(TWO, {}, THREE, FINER)
    assert (data.tolist(), model.tolist(), names) == ([0, 1], [0, 1, 1], TWO)
    logits = torch.tensor([[1.0, 0.9, 0.8]])  # the likeliest single class is entailment, the likelier group is not
    grouped = regrouped(logits, model, 2)
    assert grouped.argmax(-1).tolist() == [1]
    assert grouped.exp().sum().item() == pytest.approx(1)
    assert grouped[0, 0].item() == pytest.approx(logits.log_softmax(-1)[0, 0].item())


def test_labels_without_a_map_are_refused() -> None:
    with pytest.raises(UserError, match=r"positive, negative are none of the model's \(entailment, not_entailment\)"):
        common_labels(["positive", "negative"], {}, TWO, {})
    with pytest.raises(UserError, match="no label_map"):  # nothing that the model says would ever be right of class c
        common_labels(["a", "b", "c"], {}, ["x", "y"], {"x": "a", "y": "b"})


def test_noise_replaces_just_that_share_and_always_by_another_class() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 500)
    noisy = noisy_labels(labels, 3, 0.2, seed=1)
    assert (noisy != labels).sum() == 100
    assert set(noisy) == {0, 1, 2}
    assert np.array_equal(noisy, noisy_labels(labels, 3, 0.2, seed=1))
    assert not np.array_equal(noisy, noisy_labels(labels, 3, 0.2, seed=2))
