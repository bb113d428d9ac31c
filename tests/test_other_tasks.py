"""A finished run's scores on other tasks are those of its model on that data, made anew when anything about them differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pyarrow import parquet
from sklearn.metrics import f1_score

from selfdistill_cli import experiment, other_tasks
from selfdistill_cli.engine.runtime import make_runtime
from selfdistill_cli.errors import UserError
from selfdistill_cli.other_tasks import score_on_other_tasks
from tests.helpers.runs import SMALL, composed, only_run
from tests.helpers.task_files import write

pytestmark = pytest.mark.thorough

TEXTS = [f"Anna sold {n} red lamps in the park." for n in ("two", "three", "four", "five", "six", "seven")]
LABELS = ["entailment", "neutral", "contradiction"] * 2
FINER = {"neutral": "not_entailment", "contradiction": "not_entailment"}


def finished(folder: Path, *overrides: str) -> Path:
    outputs = [f"paths.outputs={folder}/outputs", "paths.data=nowhere", "runtime.device=cpu"]
    experiment.run(composed("method=vanilla", *SMALL, "schedule.epochs=1", *outputs, *overrides))
    return only_run(folder / "outputs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of sentence pairs."""
    return finished(tmp_path_factory.mktemp("classifier"))


def own(
    path: Path, *overrides: str, labels: str = "[entailment,neutral,contradiction]", label_map: dict[str, str] = FINER
) -> DictConfig:
    columns = ["task.text=text", "task.text_pair=text", "task.label=label", f"task.labels={labels}"]
    task: DictConfig = composed("task=custom", f"task.validation_path={path}", *columns, *overrides).task
    task.label_map = label_map
    return task


def score(run: Path, task: DictConfig, **of_the_run: Any) -> dict[str, Any]:
    cfg = OmegaConf.load(run / "config.yaml")
    assert isinstance(cfg, DictConfig)
    OmegaConf.set_struct(cfg, False)
    cfg.task.update(of_the_run)
    return score_on_other_tasks(cfg, run, [task], make_runtime(cfg.runtime, cfg.model.dtype))[task.name]


@pytest.fixture
def evaluated(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that the model was run on since the test began, without a score of before."""
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    names: list[str] = []
    evaluate = other_tasks._evaluated

    def counted(*arguments: Any) -> Any:
        names.append(arguments[3].name)
        return evaluate(*arguments)

    monkeypatch.setattr(other_tasks, "_evaluated", counted)
    return names


def test_a_score_is_found_again(run: Path, evaluated: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": LABELS})
    first = score(run, own(path))
    assert first["examples"] == 6
    assert score(run, own(path)) == first
    # What is trained on, or where the same bytes lie, is nothing to a score.
    moved = write(tmp_path / "moved.parquet", {"text": TEXTS, "label": LABELS})
    assert score(run, own(moved, "task.train_examples=3", "task.max_length=17")) == first
    assert evaluated == ["custom"]


def test_a_corrected_label_map_gives_another_score(run: Path, evaluated: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": LABELS})
    score(run, own(path))
    score(run, own(path, label_map={"neutral": "entailment", "contradiction": "not_entailment"}))
    assert parquet.read_table(run / "evaluations" / "custom.parquet")["label"].to_pylist() == [0, 0, 1] * 2
    assert len(evaluated) == 2


def test_a_corrected_label_map_of_the_runs_own_task_gives_another_score(
    run: Path, evaluated: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": ["yes", "no"] * 3})
    task = own(path, labels="['yes','no']", label_map={})
    one, other = (
        score(run, task, label_map={"entailment": a, "not_entailment": b}) for a, b in (("yes", "no"), ("no", "yes"))
    )
    assert len(evaluated) == 2
    assert one["score"] == pytest.approx(1 - other["score"])  # every answer turned round


@pytest.mark.parametrize(
    ("settings", "of_the_run"),
    [
        (["task.validation_examples=4"], {}),
        (["task.metrics=[macro_f1]"], {}),
        (["task.text_pair=null"], {}),
        ([], {"max_length": 8}),
    ],
)
def test_a_score_is_made_anew_when_what_it_depends_on_differs(
    settings: list[str], of_the_run: dict[str, Any], run: Path, evaluated: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": LABELS})
    score(run, own(path))
    for _ in range(2):  # made, then found
        found = score(run, own(path, *settings), **of_the_run)
    assert len(evaluated) == 2
    assert found["examples"] == (4 if "task.validation_examples=4" in settings else 6)
    assert json.loads((run / "evaluations" / "custom.json").read_text()) == found


def test_a_score_without_its_settings_is_made_anew(run: Path, evaluated: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": LABELS})
    found = score(run, own(path))
    place = run / "evaluations" / "custom.json"
    place.write_text(json.dumps({name: value for name, value in found.items() if name != "settings"} | {"score": -1}))
    assert score(run, own(path)) == found
    assert len(evaluated) == 2


def test_an_f1_of_the_models_class_one_is_made_anew(run: Path, evaluated: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": ["not_entailment", "entailment"] * 3})
    task = own(path, "task.metric=f1", labels="[not_entailment,entailment]", label_map={})
    found = score(run, task)
    table = parquet.read_table(run / "evaluations" / "custom.parquet").to_pydict()
    assert table["label"] == [0, 1] * 3
    assert found["score"] == pytest.approx(f1_score(table["label"], table["prediction"], zero_division=0))
    place = run / "evaluations" / "custom.json"
    place.write_text(json.dumps(found | {"settings": {n: v for n, v in found["settings"].items() if n != "class_one"}}))
    assert score(run, task) == found
    assert len(evaluated) == 2


def test_a_regression_is_scored_on_another(tmp_path: Path) -> None:
    run = finished(tmp_path, "task=synth_similarity")
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": [0.5, 1.0, 2.5, 3.0, 4.0, 4.5]})
    words = ["task.text=text", "task.text_pair=text", "task.label=label", "task.kind=regression"]
    task: DictConfig = composed("task=custom", f"task.validation_path={path}", *words).task
    found = score(run, task)
    table = parquet.read_table(run / "evaluations" / "custom.parquet").to_pydict()
    pair = torch.tensor([table["prediction"], table["label"]])
    assert found["score"] == pytest.approx(torch.corrcoef(pair)[0, 1].item(), abs=1e-4)


# --- what language models are scored with ---------------------------------------------------------

WRITES = ("task=custom", "task.kind=generation", "task.text=q", "task.answer=a", "task.decoding.max_new_tokens=4")


def asked(path: Path, *overrides: str) -> DictConfig:
    task: DictConfig = composed(*WRITES, f"task.validation_path={path}", *overrides).task
    return task


def test_a_longer_task_is_scored_at_its_own_length_as_far_as_the_model_goes(tmp_path: Path) -> None:
    sizes = ["model=tiny_llama", "model.config.hidden_size=32", "model.config.intermediate_size=64"]
    train = write(
        tmp_path / "train.jsonl", {"q": [f"{n} and {n} is" for n in range(20)], "a": [f" {n}" for n in range(20)]}
    )
    words = ("method=vanilla", *sizes, *WRITES, f"task.path={train}", "task.max_length=24", "tracking=none")
    outputs = (f"paths.outputs={tmp_path}/outputs", "paths.data=nowhere", "runtime.device=cpu", "schedule.epochs=1")
    experiment.run(composed(*words, *outputs, "schedule.batch_size=8", "model.config.max_position_embeddings=64"))
    run = only_run(tmp_path / "outputs")
    long = write(tmp_path / "long.jsonl", {"q": ["1 and 2 and 3 and 4 and 5 and 6 is " * 2], "a": [" 4"]})
    with pytest.raises(UserError, match=r"prompts leave no room .* task.max_length=24 tokens"):
        score(run, asked(long, "task.max_length=20"))
    found = score(run, asked(long, "task.max_length=512"))
    assert (found["examples"], found["settings"]["max_length"]) == (1, 512)
    longer = write(tmp_path / "longer.jsonl", {"q": ["1 and 2 and 3 and 4 and 5 and 6 is " * 9], "a": [" 4"]})
    with pytest.raises(UserError, match=r"prompts leave no room .* task.max_length=64 tokens"):
        score(run, asked(longer, "task.max_length=512"))
    assert score(run, asked(longer, "task.max_length=512", "task.long_prompts=cut"))["examples"] == 1


@pytest.mark.parametrize(
    ("of_run", "own", "expected"),
    [
        (["task.chat_template=off"], [], "off"),
        ([], ["task.chat_template=off"], "auto"),
        (["task.messages=q", "task.text=q", "task.answer=null", "task.chat_template=off"], [], "auto"),
    ],
)
def test_prompts_have_the_form_that_the_run_learned(
    of_run: list[str], own: list[str], expected: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", {"q": ["1 and 1"], "a": ["2"], "c": [["1", "2"]], "label": [1]})
    cfg = composed(*WRITES, *of_run)
    assert other_tasks._validation_of(cfg, asked(path, *own))[0].chat_template == expected
    choices: DictConfig = composed(
        "task=custom", "task.kind=multiple_choice", "task.text=q", "task.choices=c", f"task.validation_path={path}"
    ).task
    assert other_tasks._validation_of(cfg, choices)[0].chat_template == "auto"  # it reads none


def test_a_classifier_reads_other_tasks_at_its_own_length(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"text": TEXTS, "label": LABELS})
    task, data = other_tasks._validation_of(composed("task.max_length=12"), own(path, "task.max_length=200"))
    assert task.max_length == data.settings.max_length == 12
