"""What is shown of jobs that run side by side, and how the machine is shared out among them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from selfdistill_cli.sweeps.launchers.board import Board, last_line
from selfdistill_cli.sweeps.launchers.workers import threads_each, visible_gpus
from selfdistill_cli.sweeps.plan import Plan
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system.words import counted
from tests.helpers.screens import shown

JOBS = [(number, ["task=rte", f"seed={number}"]) for number in range(3)]
PLAN = Plan(3, ["seed"])


@pytest.mark.parametrize("width", [50, None])
def test_a_line_when_a_job_begins_or_ends_and_on_a_terminal_where_each_is(tmp_path: Path, width: int | None) -> None:
    records = JobRecords(tmp_path)
    finished = {"status": "finished", "metric": "accuracy", "score": 0.8125, "took": 60.0}
    records.write(*JOBS[0], finished)
    records.output(1).write_text("read rte\nstep 10/40  loss 0.5\n\n")

    def told(console: Console) -> None:
        board = Board(console, records, PLAN, at_once=2)
        board.begin("2 jobs at once on the processor")
        board.began(JOBS[1])
        board.ended(JOBS[0])
        board.show([JOBS[1]], waiting=1)
        board.close()

    words = shown(told, width)
    assert "job 2 of 3: seed=1 (about 60 s left)" in words  # two jobs, side by side
    assert "job 1: accuracy 0.8125 (1 min 00 s)" in words
    on_the_board = ("job 2  seed=1  step 10/40  loss 0.5", "1 finished, 1 running, 1 waiting")
    assert [line in words for line in on_the_board] == [width is not None] * 2
    assert max(map(len, words.splitlines())) <= 50 or width is None or str(tmp_path) in words


def test_a_job_that_left_says_where(tmp_path: Path) -> None:
    records = JobRecords(tmp_path)
    records.folder.mkdir()
    records.output(0).write_text("stopped after step 7 of 9\n")
    for job, words in zip(
        JOBS, ("job 1 left: stopped after step 7 of 9", "job 2 left: it had not begun"), strict=False
    ):
        assert shown(lambda console, job=job: Board(console, records, PLAN, 2).ended(job), None) == f"{words}\n"  # type: ignore[misc]


def test_the_last_line_of_a_long_output(tmp_path: Path) -> None:
    file = tmp_path / "1.out"
    file.write_text("long\n" * 10_000 + "the end\n \n")
    assert last_line(file) == "the end"
    assert last_line(tmp_path / "2.out") == ""


def test_threads_are_shared_out_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert [threads_each(jobs) for jobs in (1, 4, 5, 32)] == [16, 4, 3, 1]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert threads_each(4) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(4) is None


def test_cards_are_named_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus("cpu") == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus("auto") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,-1")
    assert visible_gpus("auto") == ["GPU-a", "GPU-b"]


def test_a_number_has_its_noun() -> None:
    assert [counted(n, "step") for n in (0, 1, 2000)] == ["0 steps", "1 step", "2,000 steps"]
    assert [counted(n, "epoch") for n in (1.0, 0.5, 3.0)] == ["1 epoch", "0.5 epochs", "3 epochs"]
    assert counted(2, "class", "classes") == "2 classes"
