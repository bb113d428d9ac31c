"""Which run teaches: vanilla for some epochs, or the generation before, each found by its settings."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError
from selfdistill_cli.kinds import check
from selfdistill_cli.runs.directory import RunDirectory
from selfdistill_cli.runs.keys import run_key
from selfdistill_cli.teacher import say_what_it_knows, teacher_config
from tests.helpers.processes import Sdrun, run_command, user_environment
from tests.helpers.runs import SMALL, assert_one_clear_message, assert_same, composed, only_run, results, rows
from tests.helpers.small_models import task as small_task


def born_again(generations: int, *words: str) -> DictConfig:
    return composed("method=born_again", f"method.generations={generations}", *words)


@pytest.mark.parametrize("words", [(), ("schedule.epochs=5", "task=synth_similarity"), ("schedule.max_steps=9",)])
def test_a_generation_s_teacher_is_the_generation_before_it_and_the_first_one_s_is_vanilla(words: tuple[str]) -> None:
    keys = [run_key(born_again(generations, *words)) for generations in (1, 2, 3)]
    assert len(set(keys)) == 3
    assert run_key(teacher_config(born_again(3, *words))) == keys[1]
    assert run_key(teacher_config(teacher_config(born_again(3, *words)))) == keys[0]
    plain = run_key(composed("method=vanilla", *words))
    assert run_key(teacher_config(born_again(1, *words))) == plain
    assert run_key(teacher_config(born_again(1, *words, "method.tau=9"))) == plain


def test_every_generation_has_the_passes_of_the_method() -> None:
    doubled = teacher_config(born_again(1, "method.passes=2"))
    assert run_key(doubled) == run_key(composed("method=vanilla", "method.passes=2"))


def test_what_a_generation_learns_by_is_part_of_the_keys_after_vanilla() -> None:
    assert run_key(born_again(2, "method.tau=4")) != run_key(born_again(2))
    assert run_key(teacher_config(born_again(2, "method.tau=4"))) != run_key(teacher_config(born_again(2)))


REFUSED = {
    "no generation": (("method=born_again", "method.generations=0"), r"method\.generations=0: must be at least 1"),
    "a threshold of one": (("method=mft", "method.theta=1"), r"method\.theta=1.0: must be less than 1"),
    "a threshold below zero": (("method=mft", "method.theta=-0.1"), r"method\.theta=-0.1: must be at least 0"),
    "a number": (("method=mft", "task=stsb"), "method=mft reads a distribution .* predicts a single number"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_loaded(mistake: str) -> None:
    words, said = REFUSED[mistake]
    with pytest.raises(UserError, match=said):
        check(composed(*words))


def test_mft_has_a_teacher_where_there_is_a_head_and_there_alone() -> None:
    def key(*words: str) -> str:
        return run_key(composed("method=mft", *words))

    assert key("task=rte", "method.teacher.epochs=3") != key("task=rte")
    assert key("task=gsm8k", "method.teacher.epochs=3") == key("task=gsm8k")


def test_generations_are_runs_of_their_own_and_go_on_after_a_kill(tmp_path: Path) -> None:
    words = ("method=born_again", "method.generations=2", *SMALL, "runtime.checkpoint_every=3 steps")
    last = []
    for name, faults in (("undisturbed", [{}]), ("killed", [{"SDRUN_FAULT_AT": str(at)} for at in (20, 150)] + [{}])):
        folder = tmp_path / name
        folder.mkdir()
        ends = [run_command(folder, user_environment(folder) | fault, *words).code for fault in faults]
        assert ends == [*[-signal.SIGKILL] * (len(faults) - 1), 0]
        last.append(RunDirectory(born_again(2, *SMALL, f"paths.outputs={folder / 'outputs'}")).path)
    assert_same(*last)
    outputs = tmp_path / "killed" / "outputs"
    first = RunDirectory(born_again(1, *SMALL, f"paths.outputs={outputs}")).path
    vanilla = only_run(outputs, "vanilla")
    assert vanilla == RunDirectory(composed("method=vanilla", *SMALL, f"paths.outputs={outputs}")).path
    assert len(list(outputs.glob("*/*/*/*/results.json"))) == 3
    found = results(last[1])
    assert [(one["key"], one["score"]) for one in found["generations"]] == [
        (run.name, results(run)["score"]) for run in (vanilla, first)
    ]
    assert found["teacher"] == {"key": first.name, "examples_forwarded": 2 * 80}
    assert results(first)["teacher"] == {"key": vanilla.name, "examples_forwarded": 80}
    assert all(row["loss/kd"] > 0 for row in rows(first, "train"))


def test_a_default_teacher_of_other_data_is_refused_and_a_named_one_said(sdrun: Sdrun, tmp_path: Path) -> None:
    def write(first: str) -> None:
        lines = ["sentence,label", first, *(f"film {i},{i % 2}" for i in range(15))]
        for split in ("train", "validation"):
            (tmp_path / "sst2").mkdir(exist_ok=True)
            (tmp_path / "sst2" / f"{split}.csv").write_text("\n".join(lines))

    small = [word for word in SMALL if not word.startswith("task.")]
    words = ("method=kd", "task=sst2", f"paths.data={tmp_path}", *small, "method.teacher.epochs=1")
    write("a film,1")
    ended = sdrun(*words)
    assert ended.code == 0, ended.err
    write("another film,1")
    # One that is named may know other data on purpose.
    named = ("method.alpha=0.1", f"method.teacher.path={only_run(tmp_path / 'outputs', 'vanilla')}")
    told, silent = sdrun(*words, *named), sdrun(*words, *named, "task.validation=[train]", "seed=1")
    assert (told.code, silent.code) == (0, 0), told.err + silent.err
    changed = "this run was trained on other data under the name of task=sst2"
    assert (told.err.count(changed), silent.err.count(changed)) == (1, 0)
    assert_one_clear_message(
        sdrun(*words, "method.alpha=0.1"), ["The data of task=sst2 changed since the teacher in", "trained anew"]
    )


@pytest.mark.parametrize(
    ("kind", "outputs", "warns", "said"),
    [
        ("classification", lambda y: np.eye(3)[y], False, "predicts 100.0% of the training labels"),
        ("classification", lambda y: np.eye(3)[(y + 1) % 3], True, "predicts 0.0% .*35.0%.*classes in another order"),
        ("classification", lambda y: np.eye(3)[0 * y], True, "predicts 35.0% .*no better than a constant"),
        ("regression", lambda y: y + 0.1, False, r"squared error of 0\.01 "),
        ("regression", lambda y: y / 5, True, "squared error .*numbers on another scale"),
    ],
)
def test_a_teacher_that_a_constant_beats_is_said(
    kind: str, outputs: Any, warns: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = small_task(kind)
    with caplog.at_level("INFO"):
        say_what_it_knows(torch.from_numpy(outputs(data.train.labels)), data, Path("runs/teacher"))
    (record,) = caplog.records
    assert (record.levelname == "WARNING") == warns
    assert re.search(f"eacher in runs/teacher .*{said}", record.getMessage())
