"""What a kind of task refuses before training: metrics that do not fit, settings that it would ignore."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check_task, kind_of
from tests.helpers.task_files import load, write

BASE = yaml.safe_load((CONF_DIR / "base" / "task.yaml").read_text())
OF_KIND: dict[str | None, dict[str, str]] = {
    None: {},
    "classification": {},
    "regression": {},
    "generation": {"answer": "a"},
    "multiple_choice": {"choices": "c"},
}


def refuse(kind: str | None, override: str = "task.name=custom") -> None:
    """The checks of a file's settings, with one more setting, when the file has not been read."""
    settings = OmegaConf.create({"task": {**BASE, "path": "x.csv", "text": "q", "kind": kind, **OF_KIND[kind]}})
    key, _, value = override.partition("=")
    OmegaConf.update(settings, key, yaml.safe_load(value))
    check_task(kind_of(settings.task), settings.task)


REFUSED = [
    (None, "task.metric=f2", ["no metric 'f2' of classification or regression", "Did you mean 'f1'?"]),
    (None, "task.metric=exact_match", ["name what a group has in common", "task.group="]),
    ("classification", "task.metric=pearson", ["no metric 'pearson' of classification"]),
    ("classification", "task.metrics=[accuracy,exact_match]", ["task.group="]),
    ("regression", "task.group=q", ["only classification and multiple_choice do"]),
    ("generation", "task.group=q", ["only classification and multiple_choice do"]),
    ("regression", "task.metric=accuracy", ["no metric 'accuracy' of regression", "mse, mae, loss"]),
    ("generation", "task.metric=accuracy", ["no metric 'accuracy' of generation"]),
    ("multiple_choice", "task.metric=auroc", ["no metric 'auroc' of multiple_choice"]),
    ("multiple_choice", "task.metric=exact_match", ["task.group="]),
    (None, "task.choices=c", ["task.choices=c", "only multiple_choice does", "give task.kind=multiple_choice"]),
    (None, "task.answer=a", ["give task.kind=generation"]),
    ("classification", "task.references=r", ["task.references=r: a task of classification does not use it"]),
    ("classification", "task.decoding.num_beams=4", ["task.decoding.num_beams=4", "only generation does"]),
    ("classification", "task.long_prompts=cut", ["only generation and multiple_choice do"]),
    ("regression", "task.labels=[a,b]", ["task.labels=['a', 'b']", "only classification does"]),
    ("regression", "task.class_weights=balanced", ["only classification does"]),
    ("regression", "task.label_noise=0.1", ["only classes can be replaced"]),
    ("generation", "task.text_pair=b", ["task.text_pair=b", "only classification and regression do"]),
    ("generation", "task.label=gold", ["task.label=gold"]),
    ("multiple_choice", "task.choices=null", ["needs task.choices: a column of lists, or a list of templates"]),
    ("multiple_choice", "task.choices='[a,b]'", [r""""task.choices='[\"{a}\", \"{b}\"]'").""", '["{a}", "{b}"] (']),
    ("multiple_choice", "task.answer_rule=number", ["only generation does"]),
    ("multiple_choice", "task.class_weights=balanced", ["only classification does"]),
]


@pytest.mark.parametrize(("kind", "override", "words"), REFUSED)
def test_what_a_kind_does_not_use_is_refused_before_anything_is_read(
    kind: str | None, override: str, words: list[str]
) -> None:
    refuse(kind)
    with pytest.raises(UserError) as refused:
        refuse(kind, override)
    for part in words:
        assert part in str(refused.value)


ALLOWED = {
    "classification": ["accuracy", "balanced_accuracy", "f1", "precision", "recall", "macro_f1", "auroc", "loss"],
    "regression": ["pearson", "spearman", "mse", "mae", "loss"],
    "generation": ["exact_match", "f1", "rougeL", "loss"],
    "multiple_choice": ["accuracy", "macro_f1", "loss"],
}


@pytest.mark.parametrize(("kind", "metric"), [(kind, metric) for kind, names in ALLOWED.items() for metric in names])
def test_metrics_of_each_kind(kind: str, metric: str) -> None:
    refuse(kind, f"task.metric={metric}")


def test_no_task_of_conf_has_a_setting_that_its_kind_ignores() -> None:
    paths = sorted((CONF_DIR / "task").glob("*.yaml"))
    assert len(paths) > 30
    for path in paths:
        task = OmegaConf.create({**BASE, **yaml.safe_load(path.read_text())})
        assert isinstance(task, DictConfig)
        task.decoding = {**BASE["decoding"], **task.decoding}
        if task.kind is not None:
            check_task(kind_of(task), task)


def labelled(tmp_path: Path, labels: list[object]) -> list[str]:
    path = write(tmp_path / "in.csv", {"text": [f"text {i}" for i in range(len(labels))], "label": labels})
    return ["task=custom", f"task.path={path}", "task.text=text"]


@pytest.mark.parametrize("metric", ["f1", "recall"])
def test_a_metric_of_class_one_is_refused_where_there_are_three(metric: str, tmp_path: Path) -> None:
    three = labelled(tmp_path, ["bad", "fair", "good"] * 10)
    with pytest.raises(UserError, match=rf"has 3 classes \(bad, fair, good\). Take macro_{metric}"):
        load(*three, f"task.metric={metric}")
    assert load(*labelled(tmp_path, ["bad", "good"] * 10), f"task.metric={metric}").metric == metric


def test_what_needs_the_data_is_checked_when_it_is_read(tmp_path: Path) -> None:
    numbers = labelled(tmp_path, [i / 7 for i in range(40)])
    with pytest.raises(
        UserError, match=r"no metric 'accuracy' of regression.* task.kind=classification says otherwise"
    ):
        load(*numbers, "task.metric=accuracy")
    with pytest.raises(UserError, match=re.escape("task.labels=")):
        load(*numbers, "task.kind=regression", "task.labels=[a,b]")
    alone, two = (
        write(tmp_path / "v.csv", {"text": ["x", "y"], "label": ["a", "a"]}),
        labelled(tmp_path, ["a", "b"] * 5),
    )
    with pytest.raises(UserError, match="validation of custom holds 'a' alone"):
        load(*two, f"task.validation_path={alone}", "task.metric=auroc")
    with pytest.raises(UserError, match="test of custom holds 'a' alone"):
        load(*two, f"task.test_path={alone}", "task.metric=auroc")
    few = ("task.selection=held_out", "task.selection_share=0.12")  # of 8 training examples, 1
    with pytest.raises(UserError, match=r"selection of custom holds '[ab]' alone"):
        load(*two, *few, "task.metric=auroc")


def test_two_choices_have_an_f1_and_three_have_not(tmp_path: Path) -> None:
    rows: dict[str, list[Any]] = {"q": ["which"] * 10, "label": [0, 1] * 5}
    words = ("task=custom", "task.kind=multiple_choice", "task.text=q", "task.choices=c", "task.metric=f1")
    two = write(tmp_path / "two.jsonl", rows | {"c": [["a", "b"]] * 10})
    assert load(*words, f"task.path={two}").metric == "f1"
    three = write(tmp_path / "three.jsonl", rows | {"c": [["a", "b", "c"]] * 10})
    with pytest.raises(UserError, match=r"has 3 classes .* Take macro_f1"):
        load(*words, f"task.path={three}")
