"""Every method on classification and regression, through the real command line, in one sweep each."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from tests.helpers.every_method import (
    METHODS,
    forwards_twice,
    given_teacher,
    methods_for,
    refusal,
    run_of,
    short_teacher,
)
from tests.helpers.processes import Finished, Sdrun, run_command, user_environment
from tests.helpers.runs import SMALL, composed, only_run, results, rows, table

TASKS = {"synth_entailment": "accuracy", "synth_similarity": "pearson"}
FIRST = next(iter(TASKS))
CASES = [(method, task) for task in TASKS for method in methods_for(f"task={task}")]
Swept = tuple[Path, dict[str, Finished]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """All methods on both kinds of task: their runs, and what the command said of each kind."""
    folder = tmp_path_factory.mktemp("sweep")
    ends = {}
    for task in TASKS:
        methods = ",".join(method for method, of in CASES if of == task)
        ends[task] = run_command(folder, user_environment(folder), "-m", f"method={methods}", f"task={task}", *SMALL)
    return folder / "outputs", ends


def find(outputs: Path, task: str, method: str) -> Path:
    return run_of(outputs, f"method={method}", f"task={task}", *SMALL)


def said(method: str, task: str) -> str:
    return str(refusal(f"method={method}", *given_teacher(method), f"task={task}"))


def test_a_method_that_makes_no_sense_for_a_kind_of_task_says_why() -> None:
    writing = {method for method in METHODS if "learns from answers that the model writes" in said(method, FIRST)}
    assert {"gkd", "sdft"} <= writing
    assert [method for method in METHODS if (method, FIRST) not in CASES] == [m for m in METHODS if m in writing]
    refused = {method for method in METHODS if (method, "synth_similarity") not in CASES}
    assert {"label_smoothing", "mft"} <= refused - writing
    for method in refused:
        why = "of regression has none" if method in writing else "a regression predicts a single number"
        assert why in said(method, "synth_similarity")


@pytest.mark.parametrize("task", TASKS)
def test_the_sweep_ends_well_with_a_table_and_a_csv(task: str, swept: Swept) -> None:
    outputs, ends = swept
    methods = [method for method, of in CASES if of == task]
    assert ends[task].code == 0, ends[task].err
    assert f"{len(methods)} jobs" in ends[task].out
    table = sorted(outputs.glob("sweeps/*/sweep.csv"))[[*TASKS].index(task)]
    with table.open() as file:
        jobs = list(csv.DictReader(file))
    # Vanilla is what generations begin with: whichever comes first trains it.
    assert {job["status"] for job in jobs} <= {"finished", "finished earlier"}
    assert {job["settings"] for job in jobs} == {f"method={method}" for method in methods}
    assert all(math.isfinite(float(job["score"])) for job in jobs)


@pytest.mark.parametrize(("method", "task"), CASES)
def test_a_run_leaves_what_a_researcher_needs(method: str, task: str, swept: Swept) -> None:
    run = find(swept[0], task, method)
    found = results(run)
    assert found["status"] == "finished"
    assert found["key"] == run.name
    assert found["metric"] == TASKS[task]
    assert set(found["metrics"]) == {"final", "best", "last"}
    assert found["synthetic"] is True
    epochs = 40 * 2
    if forwards_twice(method):
        assert found["examples_forwarded"] == 2 * epochs - 8  # the last batch is not repeated
    else:
        assert found["examples_forwarded"] % epochs == 0
    for name in ("config.yaml", "environment.json", "train.log", "predictions.parquet", "model/README.md"):
        assert (run / name).stat().st_size > 0, name
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(("method", "task"), CASES)
def test_metrics_rows(method: str, task: str, swept: Swept) -> None:
    run = find(swept[0], task, method)
    train, evaluations = rows(run, "train"), rows(run, "eval")
    epochs = round(2 * composed(f"method={method}").method.passes)
    assert [row["step"] for row in train] == list(range(1, 5 * epochs + 1))
    assert [row["step"] for row in evaluations] == list(range(5, 5 * epochs + 1, 5))
    assert [row["epoch"] for row in evaluations] == list(range(1, epochs + 1))
    assert all({"loss", "lr", "grad_norm", "examples_per_s", "tokens_per_s"} <= set(row) for row in train)
    for row in train:
        parts = [value for name, value in row.items() if name.startswith("loss/")]
        assert parts
        assert row["loss"] == pytest.approx(sum(parts), abs=1e-5)
    assert all({f"eval/{TASKS[task]}", "eval/loss"} <= set(row) for row in evaluations)


@pytest.mark.parametrize("task", TASKS)
def test_signals_are_logged(task: str, swept: Swept) -> None:
    def logged(method: str) -> dict[str, Any]:
        return rows(find(swept[0], task, method), "train")[-1]

    static, dynamic, dcs = logged("static_sd"), logged("dynsdpb"), logged("dcs")
    assert static["tau/min"] == static["tau/max"] == 3.0
    for name in ("tau", "alpha", "uncertainty", "discrimination"):
        assert dynamic[f"{name}/min"] <= dynamic[f"{name}/mean"] <= dynamic[f"{name}/max"]
    assert 3.0 <= dynamic["tau/min"] <= dynamic["tau/max"] <= 6.0
    assert dcs["weights/min"] <= dcs["weights/mean"] <= dcs["weights/max"]
    assert 0 <= dcs["discordant/fraction"] <= 1
    assert 1 <= dcs["weights/effective_sample_size"] <= 40 + 1e-9


@pytest.mark.parametrize("task", TASKS)
def test_the_result_is_a_hugging_face_model_that_gives_the_stored_predictions(task: str, swept: Swept) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from selfdistill_cli.kinds import load_task

    run = find(swept[0], task, "dynsdpb")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    sizes = [word for word in SMALL if word.startswith("task.")]
    data = load_task(composed(f"task={task}", *sizes).task, "", 0)
    split = data.validation[0]
    with torch.no_grad():
        logits = model(**tokenizer(split.texts, split.pairs, padding=True, return_tensors="pt")).logits
    stored = parquet.read_table(run / "predictions.parquet").to_pydict()
    assert np.array(stored["logits"]) == pytest.approx(logits.numpy(), abs=1e-5)
    assert stored["label"] == split.labels.tolist()
    if task == "synth_entailment":
        assert model.config.id2label == {0: "entailment", 1: "not_entailment"}
        accuracy = np.mean(np.array(stored["prediction"]) == np.array(stored["label"]))
        assert results(run)["score"] == pytest.approx(accuracy)
    else:
        assert model.config.num_labels == 1
        assert results(run)["score"] == pytest.approx(
            np.corrcoef(stored["prediction"], stored["label"])[0, 1], abs=1e-6
        )


def test_methods_share_one_teacher_and_say_what_it_cost(swept: Swept) -> None:
    outputs = swept[0]
    taught = [(method, task) for method, task in CASES if short_teacher(method)]
    assert {"kd", "dcs"} <= {method for method, _ in taught}
    keys: dict[str, set[str]] = {}
    for method, task in taught:
        teacher = results(find(outputs, task, method))["teacher"]
        assert teacher["examples_forwarded"] == 80
        keys.setdefault(task, set()).add(teacher["key"])
    assert [len(found) for found in keys.values()] == [1] * len(TASKS)
    born_again = {task: results(find(outputs, task, "born_again"))["teacher"]["key"] for task in TASKS}
    assert born_again == {task: find(outputs, task, "vanilla").name for task in TASKS}
    assert len(list(outputs.glob(".cache/teacher_logits/*.safetensors"))) == 2 * len(TASKS)


@pytest.mark.slow
def test_lambda_one_is_kd_without_warm_up(sdrun: Sdrun, tmp_path: Path) -> None:
    dcs = ("method=dcs", "method.lambda_=1", "method.warmup_epochs=0")
    assert sdrun(*dcs, *SMALL).code == 0
    assert sdrun("method=kd", *SMALL).code == 0
    losses = [[row["loss"] for row in rows(only_run(tmp_path / "outputs", name), "train")] for name in ("dcs", "kd")]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_any_finished_run_can_teach_unless_its_outputs_differ(sdrun: Sdrun, tmp_path: Path) -> None:
    wider = ("model.config.hidden_size=64", "schedule.epochs=1")
    assert sdrun("-m", "method=vanilla", f"task={','.join(TASKS)}", *SMALL, *wider).code == 0
    right, wrong = (next((tmp_path / "outputs").glob(f"{task}/*/vanilla/*")) for task in TASKS)
    ended = sdrun("-m", "method=kd", f"method.teacher.path={right},{right}/model,{wrong}", *SMALL)
    assert ended.code == 1
    assert f"The teacher in {wrong}/model has 1 output, task=synth_entailment needs 2." in ended.out
    # A run and its model folder are the same teacher, so they make one run.
    assert [job["status"] for job in table(tmp_path / "outputs")][:2] == ["finished", "finished earlier"]
    assert len([run for run in (tmp_path / "outputs").glob("*/*/kd/*") if (run / "results.json").exists()]) == 1
