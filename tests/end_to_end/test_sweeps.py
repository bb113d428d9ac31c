"""Sweeps: failures stop nobody, the end is a table, Optuna works, a sweep run again does what is missing."""

from __future__ import annotations

import csv
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY, Sdrun, start
from tests.helpers.runs import SMALL, rows, table


def test_a_failing_job_is_reported_and_the_others_go_on(sdrun: Sdrun, tmp_path: Path) -> None:
    command = (
        "-m",
        "method=vanilla",
        "schedule.lr=1e-3,1e38,1e37,2e-3",
        *(word for word in SMALL if "lr=" not in word),
    )
    ended = sdrun(*command)
    assert ended.code == 1
    assert "2 of 4 jobs failed" in ended.err
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished", "failed", "failed", "finished"]
    assert "training diverged" in jobs[1]["reason"]
    assert "training diverged" in jobs[2]["reason"]
    assert ended.out.index("job 2 failed") < ended.out.index("job 3 of 4")  # at once
    (log,) = (tmp_path / "outputs").glob("sweeps/*/jobs/2.log")
    assert "Traceback" in log.read_text()
    # Once more: what has finished is not done again.
    again = sdrun(*command)
    assert again.code == 1
    assert [job["status"] for job in table(tmp_path / "outputs")] == [
        "finished earlier",
        "failed",
        "failed",
        "finished earlier",
    ]


@pytest.mark.slow
def test_a_named_sweep_with_optuna(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("+experiment=optuna_tau_alpha", "hydra.sweeper.n_trials=3", *SMALL)
    assert ended.code == 0, ended.err
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished"] * 3
    assert len({job["key"] for job in jobs}) == 3
    best = max(jobs, key=lambda job: float(job["selection_score"]))  # an experiment chooses on a held-out part
    words = f"accuracy {float(best['selection_score']):.4f} held out ({float(best['score']):.4f} on validation)"
    assert f"Best trial: job {best['job']}, {words}: method.tau=" in ended.out
    assert "job 3 of 3: method.tau=" in ended.out


@pytest.mark.slow
def test_trials_that_fail_stop_no_search(sdrun: Sdrun, tmp_path: Path) -> None:
    small = [word for word in SMALL if not word.startswith("schedule.lr=")]
    words = ("+experiment=optuna_tau_alpha", "method=dynsdpb", "hydra.sweeper.n_trials=4", *small)
    ended = sdrun(*words, "schedule.lr=choice(1e-3,1e38)")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    jobs = table(tmp_path / "outputs")
    assert sorted({job["status"] for job in jobs}) == ["failed", "finished"]
    assert len(jobs) == 4
    assert "Best trial: job " in ended.out
    assert "float-castable" not in ended.out + ended.err
    none = sdrun(*words, "schedule.lr=1e38", "seed=1")
    assert none.code == 1
    assert none.err.rstrip().endswith("sdrun: every trial of the search failed; why stands above.")
    assert "Traceback" not in none.err


def test_a_mistake_in_any_job_of_a_sweep_is_found_before_the_first_one_starts(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("-m", "method=vanilla,dynsdp", *SMALL)
    assert ended.code == 1
    assert "Did you mean 'dynsdpb'?" in ended.err
    assert not list((tmp_path / "outputs").glob("*/*/vanilla"))


def test_a_value_out_of_bounds_in_any_job_is_found_before_the_first_one_starts(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("-m", "method=vanilla,dynsdpb", "method.tau=1,0", *SMALL)
    assert ended.code == 1
    assert "method.tau=0.0: must be greater than 0." in ended.err
    assert "job 3 of 3" in ended.err
    assert not list((tmp_path / "outputs").glob("*/*/*/*/config.yaml"))


def test_a_setting_acts_where_it_exists_and_equal_jobs_are_run_once(sdrun: Sdrun, tmp_path: Path) -> None:
    small = [word for word in SMALL if "epochs" not in word]
    command = ("method=vanilla,static_sd,dcs", "method.tau=1,2", "method.warmup_epochs=0", "method.teacher.epochs=1")
    ended = sdrun("-m", *command, *small, "schedule.epochs=1")
    assert ended.code == 0, ended.err
    jobs = table(tmp_path / "outputs")
    assert [job["status"] for job in jobs] == ["finished"] * 5
    assert [re.findall(r"method=(\S+)", job["settings"])[0] for job in jobs] == [
        "vanilla",
        *["static_sd"] * 2,
        *["dcs"] * 2,
    ]
    assert [re.findall(r"method.tau=(\S+)", job["settings"]) for job in jobs] == [[], ["1"], ["2"], ["1"], ["2"]]
    assert ["warmup_epochs" in job["settings"] for job in jobs] == [False, False, False, True, True]
    assert "vanilla has no method.tau: run without it." in ended.out
    assert "vanilla and static_sd have no method.warmup_epochs: run without it." in ended.out
    assert "6 combinations are 5 jobs" in ended.out


def test_a_setting_that_none_of_the_swept_options_has_is_refused(sdrun: Sdrun) -> None:
    ended = sdrun("-m", "method=vanilla,vanilla_matched", "method.tau=1,2", *SMALL)
    assert ended.code == 1
    assert "method=vanilla,vanilla_matched has no tau: " in ended.err
    assert "dcs, dynsdpb" in ended.err
    misspelt = sdrun("-m", "method=vanilla,kd", "method.tua=1", *SMALL)
    assert "there is no setting 'method.tua'. Did you mean 'method.tau'?" in misspelt.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+experiment=tau_alpha", "method.lambda_=3"], "method=dynsdpb has no lambda_: dcs"),
        (["+experiment=optuna_tau_alpha", "method.lambda_=3"], "method=dynsdpb has no lambda_: dcs"),
        (["+experiment=optuna_tau_alpha", "method=vanilla"], "method=vanilla has no tau: "),
        (["-m", "runtime.precision=fp32,bf16", "seed=0,1"], "runtime.precision is no part of what a run is known by"),
        (["-m", "tracking=none,wandb"], "tracking is no part of what a run is known by"),
    ],
)
def test_a_sweep_whose_jobs_would_be_one_run_is_refused(
    words: list[str], said: str, sdrun: Sdrun, tmp_path: Path
) -> None:
    ended = sdrun(*words, *(word for word in SMALL if not word.startswith("tracking")))
    assert ended.code == 1
    assert said in ended.err
    assert not list((tmp_path / "outputs").glob("*/*/*/*"))


def test_a_sweep_over_runtime_with_a_folder_for_each_value_is_one_of_several_runs(sdrun: Sdrun, tmp_path: Path) -> None:
    words = [word for word in SMALL if not word.startswith("paths.outputs")]
    ended = sdrun(
        "-m", "runtime.threads=1,2", "paths.outputs=out/${runtime.threads}", "seed=0", "method=vanilla", *words
    )
    assert ended.code == 0, ended.err
    assert [len(list(tmp_path.glob(f"out/{threads}/*/*/*/*/results.json"))) for threads in (1, 2)] == [1, 1]


def test_an_experiment_sweeps_over_what_a_method_asked_for_instead_may_lack(sdrun: Sdrun, tmp_path: Path) -> None:
    ended = sdrun("-m", "+experiment=tau_alpha", "method=vanilla", "seed=0", *SMALL)
    assert ended.code == 0, ended.err
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished"]
    assert "vanilla has no method.tau: run without it." in ended.out


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_runs(environment: dict[str, str], tmp_path: Path) -> None:
    command = ("-m", "method=vanilla,static_sd", "seed=0,1", *SMALL)
    both = [start(tmp_path, environment, *command) for _ in range(2)]
    assert [process.end().code for process in both] == [0, 0]
    statuses = []
    for path in (tmp_path / "outputs").glob("sweeps/*/sweep.csv"):
        with path.open() as file:
            statuses += [job["status"] for job in csv.DictReader(file)]
    assert sorted(statuses) == ["finished"] * 4 + ["finished earlier"] * 4
    runs = [path.parent for path in (tmp_path / "outputs").glob("*/*/*/*/results.json")]
    assert len(runs) == 4
    for run in runs:
        assert [row["step"] for row in rows(run, "train")] == list(range(1, 11))
        log = (run / "train.log").read_text()
        assert log.count(f"; {run}\n") == 1  # begun once: the line that opens a run ends with its folder


@pytest.mark.slow
def test_a_killed_sweep_is_finished_by_the_same_command(sdrun: Sdrun, tmp_path: Path) -> None:
    command = ("-m", "method=vanilla", "seed=0,1,2", *SMALL)
    assert sdrun(*command, SDRUN_FAULT_AT="75").code == -signal.SIGKILL
    assert len(list((tmp_path / "outputs").glob("*/*/*/*/results.json"))) == 1
    assert sdrun(*command).code == 0
    assert [job["status"] for job in table(tmp_path / "outputs")] == ["finished earlier", "finished", "finished"]


def test_a_launcher_that_is_not_there_is_named_with_the_way_to_get_it(sdrun: Sdrun, tmp_path: Path) -> None:
    hidden = tmp_path / "hydra_plugins"  # shadows the plugin, as if the extra had not been installed
    hidden.mkdir()
    (hidden / "__init__.py").write_text("")
    ended = sdrun("-m", "hydra/launcher=slurm", "seed=0,1", PYTHONPATH=f"{tmp_path}:{REPOSITORY}")
    assert ended.code == 1
    assert f"pip install -e '{REPOSITORY}[slurm]'" in ended.err
    assert "Traceback" not in ended.err


def test_slurm_where_there_is_none(sdrun: Sdrun) -> None:
    ended = sdrun("-m", "hydra/launcher=slurm", "seed=0,1", *SMALL, PATH=str(Path(sys.executable).parent))
    assert ended.code == 1
    assert "there is no sbatch here" in ended.err
    assert "Traceback" not in ended.err
