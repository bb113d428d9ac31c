"""A classifier that is trained further keeps the rows of its head by the names of the classes, or gets a new head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from selfdistill_cli import models
from selfdistill_cli.tasks import TaskData
from tests.helpers.small_models import SIZES, settings, task


def named(*names: str) -> TaskData:
    return replace(task(), label_names=list(names))


@pytest.fixture(scope="module", params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished classifier of a, b and c; the last layer of one architecture is `classifier`, of the other inside it."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    where = tmp_path_factory.mktemp(request.param)
    loaded = models.load_model(settings("tiny_bert", config=dict(SIZES)), task(), seed=3)
    head = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    sizes = SIZES | {"vocab_size": len(loaded.tokenizer), "pad_token_id": 0, **head}
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(request.param, **sizes)
    ).save_pretrained(where)  # fmt: skip
    loaded.tokenizer.save_pretrained(where)
    return where


def logits(folder: Path, data: TaskData, **changes: Any) -> torch.Tensor:
    model = models.load_model(settings(str(folder), **changes), data, 0).model.eval()
    assert [model.config.id2label[i] for i in range(model.config.num_labels)] == (data.label_names or ["LABEL_0"])
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(5, 12)[None]).logits[0]
    return found


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "a", "b"), ("c", "a")])
def test_the_same_classes_in_another_order_keep_their_rows(folder: Path, names: tuple[str, ...]) -> None:
    before = dict(zip("abc", logits(folder, named("a", "b", "c")), strict=True))
    assert torch.allclose(logits(folder, named(*names)), torch.stack([before[name] for name in names]))


@pytest.mark.parametrize("names", [("x", "y", "z"), ("a", "b", "x"), ("yes", "no"), ("a", "b", "c", "d")])
def test_other_classes_get_a_new_head_and_that_is_said(
    folder: Path, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        first, again = (models.load_model(settings(str(folder)), named(*names), 0).model for _ in range(2))
    assert f"this task has classes {', '.join(names)}: a new head is trained" in caplog.text
    trained = models.load_model(settings(str(folder)), named("a", "b", "c"), 0).model
    new, kept = dict(first.named_parameters()), dict(trained.named_parameters())
    differ = [name for name in new if new[name].shape != kept[name].shape or not torch.equal(new[name], kept[name])]
    last = "classifier." if hasattr(first, "bert") else "classifier.out_proj."
    assert {f"{last}weight"} <= set(differ) <= {f"{last}weight", f"{last}bias"}
    assert torch.equal(new[f"{last}weight"], dict(again.named_parameters())[f"{last}weight"])  # drawn by the seed
    assert new[f"{last}weight"].shape[0] == len(names)
    assert new[f"{last}weight"].std() > 0


def test_a_classifier_can_become_a_regressor(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert logits(folder, task("regression")).shape == (1,)
    assert "tells a, b, c apart, this task has a number: a new head" in caplog.text
