"""A run is addressed by its settings: the same command repeats it, shows it, or goes on with it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file

from selfdistill_cli.system.lease import held
from tests.helpers.processes import Sdrun, run_command, start, started, user_environment
from tests.helpers.runs import SMALL, only_run, results, rows, without_times

LONG = (*SMALL, "schedule.epochs=30", "runtime.checkpoint_every=4 steps")


def assert_same_run(first: Path, second: Path) -> None:
    """Same rows, results and weights; only the clock may differ."""
    assert [without_times(row) for row in rows(first)] == [without_times(row) for row in rows(second)]
    assert without_times(results(first)) == without_times(results(second))
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("method", ["dynsdpb", pytest.param("dcs", marks=pytest.mark.slow)])
def test_the_same_command_gives_the_same_run(method: str, tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        assert run_command(folder, user_environment(folder), f"method={method}", *SMALL).code == 0
        runs.append(only_run(folder / "outputs", method))
    assert_same_run(*runs)


@pytest.mark.slow
def test_another_seed_gives_another_run(sdrun: Sdrun, tmp_path: Path) -> None:
    assert sdrun("-m", "method=vanilla", "seed=0,1", *SMALL).code == 0
    first, second = sorted((tmp_path / "outputs").glob("*/*/vanilla/*"))
    assert [row["loss"] for row in rows(first, "train")] != [row["loss"] for row in rows(second, "train")]


def test_a_finished_run_is_shown_and_rerun_does_it_again(sdrun: Sdrun, tmp_path: Path) -> None:
    command = ("method=vanilla", *SMALL)
    assert sdrun(*command).code == 0
    run = only_run(tmp_path / "outputs")
    finished = (run / "results.json").stat().st_mtime_ns
    again = sdrun(*command)
    assert again.code == 0
    assert "finished earlier" in again.out
    assert f"{results(run)['score']:.4f}" in again.out
    assert (run / "results.json").stat().st_mtime_ns == finished
    # What changes speed or place only leads to the same run.
    assert "finished earlier" in sdrun(*command, "runtime.token_budget=128").out
    assert "finished earlier" in sdrun(*command, "runtime.precision=fp16").out  # of a card, which need not be here
    assert sdrun(*command, "rerun=true").code == 0
    assert (run / "results.json").stat().st_mtime_ns > finished
    assert len(rows(run, "train")) == 10


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("dynsdpb", signal.SIGKILL),
        pytest.param("dcs", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("static_sd", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_as_the_undisturbed_one(method: str, how: signal.Signals, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    command = (f"method={method}", *LONG)
    assert run_command(undisturbed, user_environment(undisturbed), *command).code == 0

    environment = user_environment(tmp_path)
    process = started(tmp_path, environment, *command, until=f"*/*/{method}/*/checkpoints/step-*/manifest.json")
    process.send_signal(how)
    ended = process.end(timeout=60)
    run = only_run(tmp_path / "outputs", method)
    assert not (run / "results.json").exists()
    if how == signal.SIGTERM:
        assert ended.code == 128 + signal.SIGTERM
        assert "SIGTERM: stopped after step" in ended.err
        assert "the same command goes on from there" in ended.err
    assert run_command(tmp_path, environment, *command).code == 0
    assert_same_run(only_run(undisturbed / "outputs", method), run)


def test_a_second_process_on_the_same_run_waits_and_shows_its_result(
    environment: dict[str, str], tmp_path: Path
) -> None:
    both = [start(tmp_path, environment, "method=dynsdpb", *SMALL) for _ in range(2)]
    ends = [process.end() for process in both]
    assert [ended.code for ended in ends] == [0, 0]
    assert sorted("finished earlier" in ended.out for ended in ends) == [False, True]
    assert len(rows(only_run(tmp_path / "outputs"), "train")) == 10


def test_waiting_names_the_holder(environment: dict[str, str], tmp_path: Path) -> None:
    command = ("method=vanilla", *SMALL)
    assert run_command(tmp_path, environment, *command).code == 0
    run = only_run(tmp_path / "outputs")
    (run / "results.json").unlink()
    with held(run / "lock"):
        waiting = start(tmp_path, environment, *command)
        holder = f"in use by process {os.getpid()} on {socket.gethostname()}: waiting"
        while holder not in waiting.said()[0]:
            assert waiting.poll(0.05) is None, waiting.said()
    ended = waiting.end()
    assert ended.code == 0
    assert "accuracy" in ended.out


def test_the_claim_of_a_killed_process_is_taken_over_with_a_warning(sdrun: Sdrun, tmp_path: Path) -> None:
    command = ("method=vanilla", *SMALL)
    assert sdrun(*command, SDRUN_FAULT_AT="12").code == -signal.SIGKILL
    run = only_run(tmp_path / "outputs")
    assert (run / "lock").exists()
    again = sdrun(*command)
    assert again.code == 0
    assert "was left behind by process" in again.err
    assert "taken over" in again.err
    assert not (run / "lock").exists()


@pytest.mark.slow
def test_a_requeued_job_goes_on_although_it_was_told_to_start_afresh(sdrun: Sdrun, tmp_path: Path) -> None:
    command = ("method=vanilla", *SMALL, "runtime.checkpoint_every=3 steps", "rerun=true")
    # SLURM's number of a job and how often it was started again, as the job finds them in its environment.
    assert sdrun(*command, SLURM_JOB_ID="7", SDRUN_FAULT_AT="40").code == -signal.SIGKILL
    assert "going on after step" in sdrun(*command, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1").err
    for other in ({"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}):
        afresh = sdrun(*command, **other)
        assert afresh.code == 0
        assert "finished earlier" not in afresh.out


def test_changed_data_is_never_mixed_into_an_old_run(sdrun: Sdrun, tmp_path: Path) -> None:
    lines = [f"{'good' if i % 2 else 'bad'} thing {i},thing,{i % 2}" for i in range(40)]
    for split in ("train", "validation"):
        path = tmp_path / "data" / "rte" / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["sentence1,sentence2,label", *lines]) + "\n")
    command = ("method=vanilla", "task=rte", *(word for word in SMALL if not word.startswith("task.")))
    assert sdrun(*command).code == 0
    path.write_text(path.read_text() + "one more,thing,1\n")
    refused = sdrun(*command)
    assert refused.code == 1
    assert "The data of task=rte changed" in refused.err
    assert sdrun(*command, "rerun=true").code == 0


def test_a_changed_file_of_a_user_s_own_is_another_run(sdrun: Sdrun, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("body,stars\n" + "".join(f"good thing {i},1\nbad thing {i},2\n" for i in range(20)))
    small = tuple(word for word in SMALL if not word.startswith("task."))
    command = ("method=vanilla", "task=custom", "task.text=body", "task.label=stars", *small)
    assert sdrun(*command, f"task.path={path}").code == 0
    assert "finished earlier" in sdrun(*command, "task.path=reviews.csv").out
    path.write_text(path.read_text() + "one more,1\n")
    again = sdrun(*command, f"task.path={path}")
    assert again.code == 0
    assert "finished earlier" not in again.out
    assert len(list((tmp_path / "outputs").glob("custom/*/vanilla/*/results.json"))) == 2


def test_best_and_last_weights(sdrun: Sdrun, tmp_path: Path) -> None:
    command = ("method=vanilla", "task=synth_similarity", *SMALL, "schedule.epochs=6", "schedule.lr=0.02")
    assert sdrun("-m", *command, "schedule.keep=best,last").code == 0
    runs = {
        ("best" if "keep: best" in (r / "config.yaml").read_text() else "last"): r
        for r in (tmp_path / "outputs").glob("*/*/vanilla/*")
    }
    best, last = results(runs["best"]), results(runs["last"])
    scores = [row["eval/pearson"] for row in rows(runs["best"], "eval")]
    assert max(scores) > scores[-1]  # so high a learning rate makes it worse again
    assert best["score"] == max(scores)
    assert last["score"] == scores[-1]
    assert best["best_epoch"] == 1 + scores.index(max(scores))
    weights = load_file(runs["best"] / "model/model.safetensors"), load_file(runs["last"] / "model/model.safetensors")
    assert any(not (weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_patience_stops_early(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("method=vanilla", *SMALL, "schedule.epochs=50", "schedule.patience=2", "schedule.lr=1e-9")
    assert ended.code == 0
    found = results(only_run(tmp_path / "outputs"))
    assert found["stopped_early"] is True
    assert found["epochs"] == 3
