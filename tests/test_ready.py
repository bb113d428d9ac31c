"""What a command asks for is checked and remarked on alike, whichever way it is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from selfdistill_cli.config.inputs import check_inputs
from selfdistill_cli.errors import UserError
from selfdistill_cli.ready import notes, require_ready, runs_of
from selfdistill_cli.runs.directory import RunDirectory
from tests.helpers.runs import composed

ROUNDS = ("self_training=star", "model=tiny_llama", "task=synth_arithmetic")
SEQUENCE = ("sequence=[synth_arithmetic,synth_facts]", "model=tiny_llama")


@pytest.mark.parametrize("words", [(), ROUNDS, SEQUENCE])
def test_files_that_are_named_and_data_are_looked_for(words: tuple[str, ...], tmp_path: Path) -> None:
    require_ready(composed(*words))
    with pytest.raises(UserError, match=r"model\.name=\./weights: there is no such folder"):
        require_ready(composed(*words, "model.name=./weights"))
    with pytest.raises(UserError, match=r"method\.teacher\.path=nowhere: there is no such run"):
        require_ready(composed(*words, "method=kd", "method.teacher.path=nowhere"))


@pytest.mark.parametrize(
    ("setting", "name", "said"),
    [
        ("model.name", "model.safetensors", "name the folder that it lies in"),
        ("method.teacher.path", "model.safetensors", "name the folder that it lies in"),
        ("method.teacher.path", "own.gguf", r"train from it first \(model\.name=.*own\.gguf\), and name that run"),
    ],
)
def test_a_file_in_a_folders_place_is_refused_with_what_to_name(
    setting: str, name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    for value in (name, tmp_path / name):
        with pytest.raises(UserError, match=rf"{setting}=.*{name} is a file: {said}"):
            require_ready(composed("method=kd", f"{setting}={value}"))


def test_what_has_finished_is_shown_without_its_data_but_not_made_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("task=rte", "model=tiny_bert", f"paths.data={tmp_path}", "paths.cache=nowhere")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(RunDirectory, "results", lambda self: object())
    require_ready(composed(*words))
    with pytest.raises(UserError, match="rte"):
        require_ready(composed(*words, "rerun=true"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eval_tasks=[snly]",), "there is no task 'snly'. Did you mean 'snli'"),
        (("runtime.diagnostics=maps",), "runtime.diagnostics=maps compares vocabulary maps"),
        ((*ROUNDS, "self_training.round=2"), "How many there are is self_training.rounds=2"),
    ],
)
def test_what_settings_alone_tell_is_refused_before_any_job_begins(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        require_ready(composed(*words))


def test_settings_of_a_task_that_reach_no_stage_of_a_sequence_are_named() -> None:
    given = ["task", "task.decoding.max_new_tokens"]
    cfg = composed(
        "sequence=[gsm8k,svamp]", "model=tiny_llama", "task=synth_arithmetic", "task.decoding.max_new_tokens=8"
    )
    first = "task=synth_arithmetic does nothing here: sequence names the tasks."
    assert notes(cfg, given) == [first]  # other than synth_arithmetic's own, so that all take it over
    own = composed("task=synth_arithmetic").task.decoding.max_new_tokens
    cfg.task.decoding.max_new_tokens = own
    said = notes(cfg, given)
    assert said[0] == first
    assert said[1].startswith(
        f"task.decoding.max_new_tokens={own} does nothing here: task=synth_arithmetic has it by itself"
    )
    assert said[1].endswith("Name one of them that has it otherwise: task=gsm8k.")
    assert notes(composed("sequence=[gsm8k,svamp]", "model=tiny_llama", "task=gsm8k"), ["task"]) == []


@pytest.mark.parametrize("words", [(), ROUNDS, SEQUENCE])
def test_settings_that_do_nothing_are_named(words: tuple[str, ...]) -> None:
    cfg = composed(*words, "schedule.max_steps=3", "schedule.epochs=2")
    said = "schedule.epochs does nothing here: schedule.max_steps=3 takes its place."
    assert notes(cfg, ["schedule.epochs", "schedule.max_steps"]) == [said]


def test_splits_of_a_benchmark_do_nothing_beside_a_file_of_ones_own() -> None:
    own = composed("task=custom", "task.path=rows.csv", "task.validation=[dev]", "task.validation_path=dev.csv")
    (said,) = notes(own, ["task.validation", "task.validation_path", "task.path"])
    assert said.startswith("task.validation does nothing here: rows come from task.path, and task.validation_path=")


def test_what_acts_in_one_stage_is_no_idle_setting() -> None:
    cfg = composed("sequence=[synth_entailment,synth_similarity]", "method=dcs", "method.discordance_quantile=0.9")
    assert [one.task.name for one in runs_of(cfg)] == ["synth_entailment", "synth_similarity"]
    given = ["method.discordance_quantile"]
    assert notes(cfg, given) == []
    assert len(notes(composed("method=dcs", "method.discordance_quantile=0.9"), given)) == 1


@pytest.mark.parametrize("setting", ["task.validation_path", "model.name", "method.teacher.path"])
def test_the_home_of_nobody_in_a_file_of_settings_is_refused_in_words(setting: str) -> None:
    cfg = composed("task=custom", "method=kd")
    OmegaConf.update(cfg, setting, "~nobody-here/in.csv")
    with pytest.raises(UserError, match="~nobody-here is the home folder of a user"):
        check_inputs(cfg)
