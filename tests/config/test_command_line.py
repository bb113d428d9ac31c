"""What is typed: texts as they stand, homes, and what to type instead of what is no command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from selfdistill_cli.config.advice import advice
from selfdistill_cli.config.command_line import command, flags_first, quoted, readable, sweeps
from selfdistill_cli.config.messages import explain
from selfdistill_cli.config.schema import CONF_DIR
from selfdistill_cli.errors import UserError
from tests.helpers.runs import composed


def value_of(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1))
def test_a_quoted_value_is_read_back_character_by_character(text: str) -> None:
    assert value_of(f"task.text={quoted(text)}") == text


TEXTS = [
    "runs/lr=0.1/in.csv",
    "Review (English)",
    "Star = score",
    "Review: {text}",
    "meta[label]",
    "größe",
    "it's",
    'say "x"',
    "a # b",
    "1.10",
    "true",
    "back\\slash [x]\\",
    " || ",
    " label",
    "label ",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("key", ["task.path", "task.label", "task.text"])
def test_a_text_is_what_was_typed(key: str, text: str) -> None:
    (word,) = readable([f"{key}={text}"])
    assert value_of(word) == text


@pytest.mark.parametrize("word", ["task.text=plain", "task.label=null", 'task.text="q: {a}"', "schedule.lr=1e-4", "-m"])
def test_what_can_be_read_stays_as_it_is(word: str) -> None:
    assert readable([word]) == [word]


PLACES = [
    "task.path",
    "task.validation_path",
    "model.name",
    "method.teacher.path",
    "paths.data",
    "paths.outputs",
    "paths.cache",
]


@pytest.mark.parametrize("key", PLACES)
def test_a_tilde_is_the_home_folder_in_every_path(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/an na")
    (word,) = readable([f"{key}=~/in.csv"])
    assert value_of(word) == "/home/an na/in.csv"


def test_homes_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert readable(["-m", "model.name=~/a,~/b"])[1] == "model.name=/home/anna/a,/home/anna/b"


@pytest.mark.parametrize("key", ["task.path", "paths.outputs"])
def test_the_home_of_nobody_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=r"~nobody-here is the home folder of a user.*\./~nobody-here/in\.csv"):
        readable([f"{key}=~nobody-here/in.csv"])


@pytest.mark.parametrize("word", ["--cfg", "-c", "--info=all", "hydra.mode=RUN"])
def test_of_an_experiment_one_run_may_be_asked_for(word: str) -> None:
    assert sweeps(["+experiment=dcs_lambda"])
    assert not sweeps(["+experiment=dcs_lambda", word])


def test_a_new_key_of_an_open_mapping_and_one_that_is_there_are_said_alike() -> None:
    for model in ("tiny_bert", "bert_base"):
        cfg = composed(*readable([f"model={model}", "+model.config.num_hidden_layers=4"]))
        assert cfg.model.config.num_hidden_layers == 4


INSTEAD = {
    "--lr 1e-4": "schedule.lr=1e-4",
    "--lr=1e-4": "schedule.lr=1e-4",
    "--learning-rate 1e-4": "schedule.lr=1e-4",
    "--batch_size 8 --seed 3": "schedule.batch_size=8 seed=3",
    "--method dynsdpb": "method=dynsdpb",
    "--rerun": "rerun=true",
    "method dynsdpb": "method=dynsdpb",
    "lr 1e-4": "schedule.lr=1e-4",
    "task = rte": "task=rte",
    "task= rte": "task=rte",
    "task =rte": "task=rte",
    "dynsdpb": "method=dynsdpb",
    "tau_alpha": "+experiment=tau_alpha",
    "train method=vanilla": "method=vanilla",
    "help": "--help",
    "method=vanilla,dynsdpb": "-m method=vanilla,dynsdpb",
    "seed=0,1 method=kd": "-m seed=0,1 method=kd",
    "seed=range(0,3)": "-m 'seed=range(0,3)'",
    "-m method=vanilla,dynsdpb, seed=0,1": "-m method=vanilla,dynsdpb seed=0,1",
    "+experiment=compare task=rte,mrpc --cfg job": "+experiment=compare task=rte --cfg job",
    "eval_tasks=snli,sick": "'eval_tasks=[snli,sick]'",
    "model.lora.target_modules=q_proj,v_proj": "'model.lora.target_modules=[q_proj,v_proj]'",
    "runtime.diagnostics=gradients,examples": "'runtime.diagnostics=[gradients,examples]'",
    "sequence=rte,mrpc": "'sequence=[rte,mrpc]'",
    "task.text=a,b": "'task.text=\"a,b\"'",
    "task.label=[x]": "'task.label=\"[x]\"'",
    "'task.labels=[a b,c (d)]'": "'task.labels=[a b,\"c (d)\"]'",
    "'task.labels=[a,b'": "'task.labels=[a,b]'",
    "-m 'task.text={a},{b}'": "-m 'task.text=\"{a},{b}\"'",
}  # fmt: skip


@pytest.mark.parametrize("typed", INSTEAD)
def test_what_to_type_instead_is_said_ready_to_copy(typed: str) -> None:
    words = readable(shlex.split(typed))
    said = advice(words)
    assert said is not None
    assert said.splitlines()[-1] == f"  sdrun {INSTEAD[typed]}"
    again = shlex.split(INSTEAD[typed])
    assert advice(readable(again)) is None  # what is advised can be read


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("list", ["sdrun --help", "sdrun --explain"]),
        ("method", ["method=<one of", "dynsdpb"]),
        ("predict outputs/x new.csv", ["  sdpredict outputs/x new.csv", "sdpredict --help"]),
        ("evaluate x", ["sdevaluate --help"]),
        ("--multi-run seed=0", ["Did you mean '--multirun'?"]),
        ("nonsense", ["<setting>=<value>"]),
        ("bert-base", ["Did you mean 'model=bert_base'?"]),
        ("--resume", ["sdrun --explain"]),
        (
            "-m +experiment=dcs_lambda,tau_alpha seed=0",
            ["\n  sdrun -m +experiment=dcs_lambda seed=0", "\n  sdrun -m +experiment=tau_alpha seed=0"],
        ),
        ("'+experiment=glob(dcs_g*)' task=rte", ["\n  sdrun +experiment=dcs_glue task=rte"]),
        ("'task.text=It costs ${price}.'", ["`${` begins the name of another setting", "a space between them"]),
        ("'task.label=${seed}'", ["`${` begins the name of another setting"]),
    ],
)
def test_what_has_no_single_remedy_is_told_where_to_look(typed: str, words: list[str]) -> None:
    said = advice(shlex.split(typed)) or ""
    assert [word for word in words if word not in said] == []
    assert "Type:" not in said


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "-m method=vanilla,dynsdpb seed=0,1",
        "'task.hub.path=${oc.env:HOME}/glue'",
        "+experiment=compare task=rte method=vanilla,kd",
        "--cfg job method=dcs",
        "--config-dir conf task=rte",
        "-cd=conf -i defaults",
        "hydra.searchpath=[pkg://confidence_penalty.conf] method=confidence_penalty",
        "~tracking",
        "-sc query=bash",
        "'paths.outputs=${oc.env:HOME}/runs' 'tracking.group=${method.name}'",
        "+experiment=dcs_lambda",
        "hydra.launcher.setup='[\"module load cuda\"]'",
    ],
)
def test_a_command_line_that_can_be_read_gets_no_advice(typed: str) -> None:
    assert advice(readable(shlex.split(typed))) is None


NAMES = {
    "lr=1e-4": ["'lr' is schedule.lr.", "sdrun schedule.lr=1e-4"],
    "learning_rate=1e-4": ["sdrun schedule.lr=1e-4"],
    "lambda=3": ["method.lambda_ (dcs, gkd and reweight have it)"],
    "tau=2": ["method.tau (", "static_sd have it", "sdrun method.tau=2"],
    "epochs=1 batch_size=4": ["sdrun schedule.epochs=1 schedule.batch_size=4"],
    "method=vanilla method.overlap=none": ["method=vanilla has no overlap", "dynsdpb and static_sd have it"],
    "method=kd method.lambda_=2": ["method=kd has no lambda_: dcs, gkd and reweight have it"],
    "sweep=tau_alpha": ["sdrun +experiment=tau_alpha"],
    "experiment=seeds": ["sdrun +experiment=seeds"],
    "size=small task=rte": ["sdrun +size=small task=rte"],
    "dataset=rte": ["rte is an option of task", "sdrun task=rte"],
    "model.lora.r=8": ["model.lora has alpha, dropout, merge, rank and target_modules"],
    "method.tua=1": ["Did you mean 'method.tau'?"],
    "schedule.learning_rate=1": ["Did you mean 'schedule.lr'?", "sdrun schedule.lr=1"],
    "seed=abc": ["seed=abc: allowed: whole number at least 0"],
    "seed=0-2 task=rte": ["sdrun -m 'seed=range(0,3)' task=rte"],
    "seed=[0,1]": ["sdrun -m seed=0,1"],
    "schedule.lr=1e-3x": ["schedule.lr=1e-3x: allowed: number greater than 0"],
    "schedule.epochs=null": ["schedule.epochs=null: allowed: number at least 0"],
    "task.metrics=f1": ["sdrun 'task.metrics=[f1]'"],
}


@pytest.mark.parametrize("typed", NAMES)
def test_a_name_that_is_not_there_is_told_in_full_with_who_has_it(typed: str) -> None:
    words = shlex.split(typed)
    with pytest.raises(HydraException) as failed:
        composed(*words)
    said = explain(failed.value, words)
    assert [part for part in NAMES[typed] if part not in said] == []


def test_a_file_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("reviews.csv").write_text("text,label\n")
    assert "task.path" in (advice(["reviews.csv"]) or "")


def test_flags_stand_before_settings_with_what_follows_them() -> None:
    typed = ["method=kd", "-m", "seed=0,1", "--config-dir", "conf", "task=rte", "--cfg=job"]
    assert flags_first(typed) == ["-m", "--config-dir", "conf", "--cfg=job", "method=kd", "seed=0,1", "task=rte"]


def test_the_command_is_quoted_for_a_shell() -> None:
    line = command(['task.text="a b"', "seed=1"])
    assert shlex.split(line) == ["sdrun", 'task.text="a b"', "seed=1"]


@pytest.mark.parametrize("word", ["task.label_map={a: b}", "+task.rename={a: b}"])
def test_names_of_the_users_own_are_given_as_a_mapping(word: str) -> None:
    key = word.lstrip("+").partition("=")[0]
    assert OmegaConf.select(composed(*readable([word])), key) == {"a": "b"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("hydra: {sweper: {params: {seed: '0,1'}}}", "there is no setting 'sweper'. Did you mean 'sweeper'?"),
        ("hydra: {launcher: {job_per_gpu: 2}}", "Did you mean 'jobs_per_gpu'? Allowed there are jobs_per_gpu."),
        ("schedule: {epoch: 3}", "there is no setting 'epoch'. Did you mean 'epochs'?"),
    ],
)
def test_an_unknown_key_in_a_file_is_said_in_our_words(written: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\ndefaults: [override /hydra/launcher: local]\n{written}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    words = ["+experiment=mine", f"hydra.searchpath=[file://{tmp_path}]"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), pytest.raises(HydraException) as error:
        compose("config", overrides=words, return_hydra_config=True)
    assert explain(error.value, words).startswith("experiment/mine.yaml: there is no setting")
    assert said in explain(error.value, words)
