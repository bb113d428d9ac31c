"""A user's mistake ends in one clear message, a non-zero exit and nothing that looks finished."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import Finished, Sdrun, run_command
from tests.helpers.runs import SMALL, assert_one_clear_message, only_run

MISTAKES = {
    "misspelt option": (["method=dynsdp"], ["no method=dynsdp", "Did you mean 'dynsdpb'?", "static_sd"]),
    "misspelt group": (["metod=dcs"], ["no setting 'metod'", "Did you mean 'method'?"]),
    "misspelt key": (["method.tua=1"], ["no setting 'method.tua'", "Did you mean 'method.tau'?"]),
    "key of another method": (
        ["method=vanilla", "method.overlap=half"],
        ["method=vanilla has no overlap: dynsdpb and static_sd"],
    ),
    "word without a value": (["--lr", "1e-4"], ["'lr' is schedule.lr", "  sdrun schedule.lr=1e-4"]),
    "lists without -m": (["method=vanilla,dynsdpb"], ["want -m", "  sdrun -m method=vanilla,dynsdpb"]),
    "method that never acts": (["method=static_sd", "method.start_epoch=3"], ["training ends after 3 epochs"]),
    "no dropout between two passes": (
        ["method=rdrop", "model.dropout=0"],
        ["method=rdrop", "differ by dropout alone, and with model.dropout=0 there is none", "model.dropout=0.1"],
    ),
    "drawn classes": (["method=sdft"], ["method=sdft learns from answers that the model writes", "has none"]),
    "drawn classes of static_sd": (
        ["method=static_sd", "method.outputs=sampled"],
        ["method.outputs=sampled learns from answers", "task=synth_arithmetic"],
    ),
    "all of the average": (["method=ema", "method.beta=1"], ["method.beta=1.0: must be less than 1"]),
    "warm-up to the end": (["method=dcs", "schedule.epochs=1"], ["method.warmup_epochs=1", "plain training"]),
    "new key of an open mapping": (["model.config.layers=2"], ["wants a plus: +model.config.layers=<value>"]),
    "misspelt key of the launcher": (
        ["-m", "hydra/launcher=slurm", "hydra.launcher.partion=x", "seed=0,1"],
        ["Did you mean 'hydra.launcher.partition'?"],
    ),
    "wrong type": (["method.tau=warm"], ["method.tau=warm", "allowed: number greater than 0"]),
    "value out of bounds": (["method.tau=0"], ["method.tau=0.0", "greater than 0"]),
    "settings of a sweep": (["-m", "--cfg", "job"], ["leave out -m"]),
    "unfinished list": (["schedule.epochs=[1"], ["[1"]),
    "missing file": (["task=custom", "task.path=no.csv", "task.text=a"], ["task.path=no.csv: there is no such file"]),
    "file of a generated task": (
        ["task.path=no.csv"],
        ["task=synth_entailment generates", "task=custom task.path=no.csv"],
    ),
    "missing data": (["task=rte"], ["no train split", "Three ways out", "SDRUN_DATA"]),
    "missing data of a stage": (["sequence=[synth_entailment,rte]"], ["task=rte: there is no train split"]),
    "missing model of a sequence": (
        ["sequence=[synth_arithmetic,synth_facts]", "model.name=./weights"],
        ["model.name=./weights: there is no such folder"],
    ),
    "missing model": (["model.name=mini"], ["'mini' cannot be loaded", "Did you mean 'minilm'?", "Three ways out"]),
    "missing folder": (["model.name=./weights"], ["there is no such folder"]),
    "missing teacher": (["method=kd", "method.teacher.path=nowhere", *SMALL], ["no such run or model"]),
    "diverged": (["method=vanilla", *SMALL, "schedule.lr=1e38"], ["training diverged", "lower schedule.lr"]),
    "no such device": (["runtime.device=mps", *SMALL], ["this machine has none"]),
    "fp16 on a CPU": (["runtime.precision=fp16", "runtime.device=cpu", *SMALL], ["needs a GPU"]),
}


def test_a_run_that_is_refused_late_leaves_nothing(sdrun: Sdrun, tmp_path: Path) -> None:
    undropped = ("model=tiny_llama", "task=synth_arithmetic", "method=rdrop", "task.train_examples=8", "tracking=none")
    ended = sdrun(*undropped)
    assert_one_clear_message(ended, ["method=rdrop", "tiny_llama drops nothing"])
    assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file() and ".cache" not in path.parts]
    assert not list((tmp_path / "outputs").glob("synth_arithmetic/*/*/*"))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_clear_message(mistake: str, sdrun: Sdrun, tmp_path: Path) -> None:
    arguments, words = MISTAKES[mistake]
    assert_one_clear_message(sdrun(*arguments), words)
    assert not list(tmp_path.rglob("results.json"))


KINDS = {
    "classification": ["task=synth_entailment"],
    "regression": ["task=synth_similarity"],
    "generation": ["task=synth_arithmetic", "model=tiny_llama", "task.decoding.max_new_tokens=4"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_in_the_last_step_is_named_at_the_evaluation(kind: str, sdrun: Sdrun, tmp_path: Path) -> None:
    """No step comes after it that would notice: the metric's own library would complain of NaN."""
    words = ["method=vanilla", *SMALL, "schedule.max_steps=1", "schedule.lr=1e38", "schedule.warmup_ratio=0"]
    ended = sdrun(*words, *KINDS[kind], "schedule.max_grad_norm=null")
    assert_one_clear_message(ended, ["not finite after step 1", "training diverged", "lower schedule.lr"])
    assert not list(tmp_path.rglob("results.json"))


def test_a_margin_of_labels_that_turn_out_to_be_numbers_is_refused(sdrun: Sdrun, tmp_path: Path) -> None:
    lines = ["body,stars", *(f"film {i},{i / 7:.4f}" for i in range(40))]
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    command = ("task=custom", "task.path=reviews.csv", "task.text=body", "task.label=stars")
    small = [word for word in SMALL if not word.startswith("task.")]
    ended = sdrun(*command, *small, "method=dynsdpb", "method.discrimination=margin")
    assert_one_clear_message(ended, ["discrimination=margin reads class probabilities", "Allowed is gold"])


def test_what_was_read_is_said_before_training_and_strange_data_is_an_error_if_asked(
    sdrun: Sdrun, tmp_path: Path
) -> None:
    lines = ["body,stars", *(f"a good film {i},good\na bad film {i},bad" for i in range(20)), "a good film 0, Good"]
    (tmp_path / "reviews.csv").write_text("\n".join([*lines, "an odd film,"]) + "\n")
    command = ("task=custom", "task.path=reviews.csv", "task.text=body", "task.label=stars", "method=vanilla")
    small = [word for word in SMALL if not word.startswith("task.")]
    refused = sdrun(*command, *small)
    assert_one_clear_message(refused, ["row 41", "1 of 42 rows has no label", "task.missing=drop"])
    strict = sdrun(*command, *small, "task.missing=drop", "task.strict=true")
    assert_one_clear_message(strict, ["' Good' (1) and 'good' (20)", "' Good' is a class with one example"])
    assert not list(tmp_path.rglob("results.json"))
    done = sdrun(*command, *small, "task.missing=drop", "task.max_length=4", "schedule.max_steps=1")
    assert done.code == 0, done.err
    said = [
        "read reviews.csv: 41 rows, classification (read off the labels), 3 classes (' Good' 1, bad 20, good 20); "
        "a fifth (8 rows, seed 0) is held out for validation; 1 row left out (1 without label)",
        "' Good' (1) and 'good' (20) are classes that differ only in case",
        "1 text stands in training with two labels (rows 0 and 40)",
        "task.max_length=4 cuts 33 of 33 training examples; the longest has ",
    ]
    log = (only_run(tmp_path / "outputs") / "train.log").read_text()
    for words in said:
        assert words in done.err
        assert words in log


def test_a_failed_run_starts_afresh_once_the_mistake_is_mended(sdrun: Sdrun, tmp_path: Path) -> None:
    lines = ["body,stars", *(f"good {i},1\nbad {i},2" for i in range(20))]
    (tmp_path / "reviews.csv").write_text("\n".join([*lines, "odd,3"]) + "\n")
    command = ("task=custom", "task.path=reviews.csv", "task.text=bodi", "task.label=stars", "method=vanilla")
    small = [word for word in SMALL if not word.startswith("task.")]
    assert_one_clear_message(sdrun(*command, *small), ["no column 'bodi'", "Did you mean 'body'?"])
    assert sdrun(*command, *small, "task.text=body").code == 0


@pytest.mark.slow
def test_a_full_disk_is_named_and_leaves_nothing_that_looks_finished(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # A limit on the size of files is what a full disk looks like to a program, and needs no disk to fill.
    words = ("method=vanilla", *SMALL, "model.config.hidden_size=256")
    command = [sys.executable, "-m", "selfdistill_cli.train", *words]
    limited = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000,) * 2); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.run(
        [sys.executable, "-c", limited, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_clear_message(Finished(process.returncode, process.stdout, process.stderr), ["disk is full"])
    run = only_run(tmp_path / "outputs")
    assert not (run / "results.json").exists()
    assert not list(run.rglob(".*.partial"))
    again = run_command(tmp_path, environment, *words)
    assert again.code == 0, again.err


def test_a_folder_that_cannot_be_written(sdrun: Sdrun, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    for mode in ([], ["-m"]):
        ended = sdrun(*mode, *SMALL, SDRUN_OUTPUTS=str(tmp_path / "occupied"))
        assert_one_clear_message(ended, ["occupied", "paths.outputs=<folder>"])
