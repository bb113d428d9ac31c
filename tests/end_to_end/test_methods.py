"""Every method on classification and regression, through the real command line, in one sweep."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from tests.helpers.processes import Finished, Sdrun, run_command, user_environment
from tests.helpers.runs import SMALL, composed, only_run, results, rows, table

METHODS = ("vanilla", "static_sd", "dynsdpb", "kd", "dcs")
TASKS = {"synth_entailment": "accuracy", "synth_similarity": "pearson"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """All methods on both kinds of task; their runs and what the command said."""
    folder = tmp_path_factory.mktemp("sweep")
    ended = run_command(
        folder, user_environment(folder), "-m", "+experiment=compare", "seed=0", f"task={','.join(TASKS)}", *SMALL
    )
    return folder / "outputs", ended


CASES = [(method, task) for method in METHODS for task in TASKS]


def find(outputs: Path, task: str, method: str) -> Path:
    """The run of this method and of one pass; kd and dcs also left a vanilla run, their teacher's."""
    found = [path.parent for path in outputs.glob(f"{task}/tiny_bert/{method}/*/results.json")]
    configs = {run: (run / "config.yaml").read_text() for run in found}
    (run,) = [run for run, words in configs.items() if "keep: best" in words and "passes: 2" not in words]
    return run


def test_the_sweep_ends_well_with_a_table_and_a_csv(swept: tuple[Path, Finished]) -> None:
    outputs, ended = swept
    assert ended.code == 0, ended.err
    assert "12 jobs" in ended.out
    (table,) = outputs.glob("sweeps/*/sweep.csv")
    with table.open() as file:
        jobs = list(csv.DictReader(file))
    assert [job["status"] for job in jobs] == ["finished"] * 12
    assert {job["settings"] for job in jobs} == {
        f"method={m} task={t}" for t in TASKS for m in (*METHODS, "vanilla_matched")
    }
    assert all(math.isfinite(float(job["score"])) for job in jobs)


@pytest.mark.parametrize(("method", "task"), CASES)
def test_a_run_leaves_what_a_researcher_needs(method: str, task: str, swept: tuple[Path, Finished]) -> None:
    run = find(swept[0], task, method)
    found = results(run)
    assert found["status"] == "finished"
    assert found["key"] == run.name
    assert found["metric"] == TASKS[task]
    assert set(found["metrics"]) == {"final", "best", "last"}
    assert found["synthetic"] is True
    fresh_epochs = 40 * 2
    twice = method in ("static_sd", "dynsdpb")
    assert found["examples_forwarded"] == (
        2 * fresh_epochs - 8 if twice else fresh_epochs
    )  # 8: the last batch is not repeated
    for name in ("config.yaml", "environment.json", "train.log", "predictions.parquet", "model/README.md"):
        assert (run / name).stat().st_size > 0, name
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(("method", "task"), CASES)
def test_metrics_rows(method: str, task: str, swept: tuple[Path, Finished]) -> None:
    run = find(swept[0], task, method)
    train, evaluations = rows(run, "train"), rows(run, "eval")
    assert [row["step"] for row in train] == list(range(1, 11))
    assert [row["step"] for row in evaluations] == [5, 10]
    assert [row["epoch"] for row in evaluations] == [1.0, 2.0]
    needed = {"loss", "loss/ce", "lr", "grad_norm", "examples_per_s", "tokens_per_s"}
    if method != "vanilla":
        needed |= {"loss/kd"}
    assert all(needed <= set(row) for row in train)
    for row in train:
        assert row["loss"] == pytest.approx(row["loss/ce"] + row.get("loss/kd", 0), abs=1e-5)
    assert all({f"eval/{TASKS[task]}", "eval/loss"} <= set(row) for row in evaluations)


@pytest.mark.parametrize("task", TASKS)
def test_signals_are_logged(task: str, swept: tuple[Path, Finished]) -> None:
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
def test_the_result_is_a_hugging_face_model_that_gives_the_stored_predictions(
    task: str, swept: tuple[Path, Finished]
) -> None:
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


def test_kd_and_dcs_share_one_teacher_and_say_what_it_cost(swept: tuple[Path, Finished]) -> None:
    outputs = swept[0]
    for method in ("kd", "dcs"):
        assert results(find(outputs, "synth_entailment", method))["teacher"]["examples_forwarded"] == 80
    for task in TASKS:
        teachers = [p for p in outputs.glob(f"{task}/tiny_bert/vanilla/*/config.yaml") if "keep: last" in p.read_text()]
        assert len(teachers) == 1
    assert len(list(outputs.glob(".cache/teacher_logits/*.safetensors"))) == len(TASKS)


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
    assert f"The teacher in {wrong}/model has 1 output(s), task=synth_entailment needs 2." in ended.out
    # A run and its model folder are the same teacher, so they make one run.
    assert [job["status"] for job in table(tmp_path / "outputs")][:2] == ["finished", "finished earlier"]
    assert len([run for run in (tmp_path / "outputs").glob("*/*/kd/*") if (run / "results.json").exists()]) == 1
