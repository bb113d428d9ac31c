"""hydra/launcher=local: jobs side by side on this machine, a few on each card or on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from selfdistill_cli.errors import Interrupted
from selfdistill_cli.sweeps.choices import Choices, NumberedJob
from selfdistill_cli.sweeps.launchers.board import Board
from selfdistill_cli.sweeps.launchers.runs_of_jobs import RunsOfJob
from selfdistill_cli.sweeps.launchers.telling import job_return
from selfdistill_cli.sweeps.launchers.workers import (
    Place,
    Worker,
    import_everything,
    threads_each,
    visible_gpus,
    wait_for,
)
from selfdistill_cli.sweeps.plan import note_plan, read_plan
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system.signals import StopRequest, finishing_steps, listening
from selfdistill_cli.system.words import counted
from selfdistill_cli.tracking.terminal import make_console

LOOK_SECONDS = 0.25
"""Between two looks at the jobs."""


class SideBySide(Launcher):
    """`jobs_per_gpu` at once on each GPU, or on the processor; each with the same share of its threads, however many are left."""

    def __init__(self, jobs_per_gpu: int) -> None:
        self.jobs_per_gpu = jobs_per_gpu

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        jobs: list[NumberedJob] = list(enumerate(Choices(self).acting(job_overrides), start=initial_job_idx))
        note_plan(self.config, [overrides for _, overrides in jobs], initial_job_idx)
        records = JobRecords(Path(self.config.hydra.sweep.dir))
        import_everything()
        places = self._places()
        board = Board(make_console(), records, read_plan(records.folder.parent), min(len(places), len(jobs)))
        board.begin(_in_words(places))
        with listening(), finishing_steps() as asked:
            sweep = _Sweep(Waiting(self, jobs), records, board, [_Slot(self, place, records) for place in places])
            try:
                sweep.run(asked)
            finally:
                sweep.close()
        return [job_return(overrides, records.read(number)) for number, overrides in jobs]

    def do(self, number: int, overrides: Sequence[str]) -> None:
        """One job, in whichever process this is."""
        here = BasicLauncher()
        here.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self.config)
        here.launch([overrides], number)

    def _places(self) -> list[Place]:
        gpus: list[str | None] = [*visible_gpus(self.config.runtime.device)] or [None]
        threads = threads_each(self.jobs_per_gpu * len(gpus))
        return [Place(gpu, threads) for _ in range(self.jobs_per_gpu) for gpu in gpus]


def _in_words(places: Sequence[Place]) -> str:
    """`4 jobs at once, 4 threads each`, and on how many GPUs."""
    gpus = len({place.gpu for place in places if place.gpu is not None})
    threads = places[0].threads
    return (
        f"{counted(len(places), 'job')} at once"
        + (f" on {counted(gpus, 'GPU')}" if gpus else " on the processor")
        + (f", {counted(threads, 'thread')} each" if threads else "")
    )


class Waiting:
    """The jobs that nobody is at yet, and which of them is next."""

    def __init__(self, launcher: Any, jobs: Sequence[NumberedJob]) -> None:
        self.launcher = launcher
        self.jobs = list(jobs)
        self._known: dict[int, RunsOfJob] = {}

    def take(self, running: Sequence[NumberedJob]) -> NumberedJob | None:
        """The first that would not wait for another process, such as one that trains its teacher.

        Where all would, None while anything runs, and else the first.
        """
        begun = {path for job in running for path in self._runs(job).paths()}
        free = next((job for job in self.jobs if not self._runs(job).would_wait(begun)), None)
        if free is None and not running and self.jobs:
            free = self.jobs[0]
        if free is not None:
            self.jobs.remove(free)
        return free

    def _runs(self, job: NumberedJob) -> RunsOfJob:
        if job[0] not in self._known:
            self._known[job[0]] = RunsOfJob.of(self.launcher, job[1])
        return self._known[job[0]]


class _Slot:
    """A place on the machine, and the process that has it; there is none before its first job, or after it was killed."""

    def __init__(self, launcher: SideBySide, place: Place, records: JobRecords) -> None:
        self._launcher, self._place, self._records = launcher, place, records
        self.worker: Worker | None = None

    @property
    def job(self) -> NumberedJob | None:
        """What runs there."""
        return self.worker.job if self.worker is not None else None

    def give(self, job: NumberedJob) -> None:
        """Begin a job there."""
        if self.worker is None or not self.worker.alive():
            self.worker = Worker(self._place, self._launcher.do, self._records.output)
        self.worker.give(job)


class _Sweep:
    def __init__(self, waiting: Waiting, records: JobRecords, board: Board, slots: Sequence[_Slot]) -> None:
        self.waiting, self.records, self.board, self.slots = waiting, records, board, slots
        self.numbers = [number for number, _ in waiting.jobs]

    def run(self, asked: StopRequest) -> None:
        """Do all jobs. Raises `Interrupted` once those that run have left, if that is asked for."""
        while self.waiting.jobs or self._running():
            for slot in self.slots:
                if slot.job is None and self.waiting.jobs and asked.signal is None:
                    job = self.waiting.take(self._running())
                    if job is not None:
                        slot.give(job)
                        self.board.began(job)
            self.board.show(self._running(), len(self.waiting.jobs))
            self._look(asked)
            if asked.signal is not None:
                self._stop(asked)

    def close(self) -> None:
        """End what is left of the processes."""
        self.board.close()
        workers = [slot.worker for slot in self.slots if slot.worker is not None]
        for worker in workers:
            worker.leave()
        for worker in workers:
            worker.close()

    def _running(self) -> list[NumberedJob]:
        return [slot.job for slot in self.slots if slot.job is not None]

    def _look(self, asked: StopRequest) -> None:
        """Wait a moment, and tell of the jobs that have ended. One without a record was killed, unless all were `asked` to stop."""
        busy = [slot.worker for slot in self.slots if slot.worker is not None and slot.worker.job is not None]
        wait_for(busy, LOOK_SECONDS)
        for worker in busy:
            job = worker.ended()
            if job is None:
                continue
            if self.records.read(job[0]) is None and asked.signal is None:
                self.records.lost(*job, worker.how_it_ended(), self.records.output(job[0]))
            self.board.ended(job)

    def _stop(self, asked: StopRequest) -> None:
        """Pass the request on, and wait for the jobs that run: each leaves with a checkpoint."""
        name = asked.signal
        assert name is not None
        for slot in self.slots:
            if slot.worker is not None and slot.job is not None:
                slot.worker.send(name)
        if asked.goes_on_after(name):
            asked.signal = None
            return
        while self._running():
            self._look(asked)
            self.board.show(self._running(), len(self.waiting.jobs))
        left = sum(self.records.read(number) is None for number in self.numbers)
        if left:
            raise Interrupted(f"{counted(left, 'job')} left: the same command goes on with what was begun", name)
