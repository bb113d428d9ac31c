"""hydra/launcher=slurm: a job array. Its jobs go on if this process ends; the same command waits for them again."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.sweeps.launchers.runs_of_jobs import work_of
from selfdistill_cli.sweeps.launchers.submitted import Jobs, Submitted
from selfdistill_cli.sweeps.launchers.telling import summary, time_left
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.system.files import read_json, write_json
from selfdistill_cli.system.words import counted
from selfdistill_cli.tracking.terminal import make_console, say

PASS_SIGNALS_ON = (
    'srun() { command srun "$@" & local child=$!; trap "kill -USR2 $child" USR2; '
    'while :; do wait "$child"; local code=$?; kill -0 "$child" 2>/dev/null || return "$code"; done; }'
)
"""For the batch script: a shell that waits for srun in the foreground dies of SIGUSR2, and its job with it.
`scancel --batch` and `--signal=B:USR2` send it there; this passes it on to srun, which passes it on to the job."""
PASS_PROCESSORS_ON = "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}"
"""For the batch script: since SLURM 22.05 srun does not take over sbatch's processors a task by itself."""
END_TOGETHER = "export SLURM_KILL_BAD_EXIT=1"
"""For the batch script: one task's failure ends the others of its job, which may wait for it."""
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY TIMEOUT REVOKED GONE".split()  # noqa: SIM905
)
"""SLURM's states after which nothing comes; GONE: it no longer knows the job. A preempted or requeued job goes
by PENDING."""
GRACE_SECONDS = 90.0
"""So long a job has to stay in such a state. One that is being requeued shows it until its processes are gone,
for which SLURM gives them KillWait (30 s by default); and a shared file system may show a record late."""
WAITS_FOR_SQUEUE = (0.0, 5.0, 20.0)
"""Seconds before squeue is asked about jobs of an earlier command, as long as it does not answer."""


@dataclass
class Queued:
    """A job that SLURM has, from this sweep or from an earlier one over the same run."""

    number: int
    overrides: Sequence[str]
    job_id: str
    log: Path
    sweep_dir: Path
    """Of the sweep that submitted it, where its record will be."""
    recorded_as: int
    """Its number there."""
    state: str = "unknown"
    ended_at: float | None = None
    """When SLURM first said so (`time.monotonic`)."""


class SlurmJobs(Submitted, SlurmLauncher):
    """Submits the jobs that SLURM does not have yet, and waits for all."""

    def do(self, jobs: Jobs, records: JobRecords) -> None:
        if shutil.which("sbatch") is None:
            raise UserError("hydra/launcher=slurm: there is no sbatch here. Without SLURM: hydra/launcher=local.")
        console = make_console()
        waiting = self._in_the_queue_already(jobs)
        if waiting:
            are = "is" if len(waiting) == 1 else "are"
            say(console, f"{counted(len(waiting), 'job')} {are} in SLURM's queue already: {_arrays(waiting)}")
        known = {queued.number for queued in waiting}
        waiting += self._submit([job for job in jobs if job[0] not in known])
        say(console, f"Ctrl-C leaves them there, the same command waits again; `scancel {_arrays(waiting)}` ends them.")
        try:
            self._wait(waiting, len(jobs), records)
        except KeyboardInterrupt:
            words = f"SLURM goes on with the jobs. The same command waits for them again; `scancel {_arrays(waiting)}` ends them"
            raise Interrupted(words, signal.SIGINT) from None

    def _wait(self, waiting: list[Queued], total: int, records: JobRecords) -> None:
        """Tell how these jobs go, until each has a record. `total`: of the sweep, with those that had one before."""
        console, pause, told = make_console(), 1.0, ""
        while waiting:
            _look(waiting)
            waiting = [queued for queued in waiting if not _recorded(queued, records)]
            states = [_shown(queued) for queued in waiting]
            words = summary(total - len(waiting), states)
            if words != told:
                say(console, words + time_left(states, records.all()))
                told, pause = words, 1.0
            if waiting:
                time.sleep(pause)
                pause = min(15.0, 1.2 * pause)  # a cluster's controller has others to answer

    def _submit(self, jobs: Jobs) -> list[Queued]:
        """Submit these jobs as one array, and note which run each is for."""
        if not jobs:
            return []
        executor = self.executor(
            self.params | {"setup": [*self.params["setup"], PASS_PROCESSORS_ON, PASS_SIGNALS_ON, END_TOGETHER]}
        )
        try:
            submitted = executor.map_array(self, *zip(*(self.arguments(*job) for job in jobs), strict=True))
        except Exception as error:  # submitit wraps what sbatch said in exceptions of several kinds
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(f"SLURM took no job: {lines[-1] if lines else type(error).__name__}") from error
        sweep_dir = Path(self.config.hydra.sweep.dir).absolute()
        array = [
            Queued(number, overrides, job.job_id, Path(job.paths.stderr), sweep_dir, number)
            for (number, overrides), job in zip(jobs, submitted, strict=True)
        ]
        say(
            make_console(),
            f"{counted(len(jobs), 'job')}: SLURM's job {_arrays(array)}; logs: {submitted[0].paths.folder.parent}",
        )
        for queued in array:
            note = self._note(queued.overrides)
            if note is not None:
                where = {"sweep_dir": str(sweep_dir), "number": queued.number, "log": str(queued.log)}
                write_json(note, {"job_id": queued.job_id, **where})
        return array

    def _in_the_queue_already(self, jobs: Jobs) -> list[Queued]:
        """Those of the jobs whose runs SLURM was given by an earlier command and has not ended."""
        found = []
        for number, overrides in jobs:
            note = self._note(overrides)
            noted = read_json(note) if note is not None else None
            if noted:
                where = Path(noted["log"]), Path(noted["sweep_dir"]), noted["number"]
                found.append(Queued(number, overrides, noted["job_id"], *where))
        for wait in WAITS_FOR_SQUEUE:
            time.sleep(wait)
            _look(found)
            if all(queued.state != "unknown" for queued in found):
                return [queued for queued in found if queued.state not in ENDED]
        raise UserError(
            f"squeue does not say whether {counted(len(found), 'job')} of an earlier command still wait or run, and they must "
            "not be given to SLURM twice. Give the same command again in a while."
        )

    def _note(self, overrides: Sequence[str]) -> Path | None:
        """Where it is noted which of SLURM's jobs does this run."""
        work = work_of(self, overrides)
        return None if work is None else Path(self.config.paths.outputs).absolute() / ".slurm" / f"{work}.json"


def _look(waiting: list[Queued]) -> None:
    """Bring the jobs' states up to date."""
    states = {array: _squeue(array) for array in {queued.job_id.partition("_")[0] for queued in waiting}}
    for queued in waiting:
        answer = states[queued.job_id.partition("_")[0]]
        queued.state = "unknown" if answer is None else answer.get(queued.job_id, "GONE")
        if queued.state not in ENDED:
            queued.ended_at = None
        elif queued.ended_at is None:
            queued.ended_at = time.monotonic()


def _squeue(array: str) -> dict[str, str] | None:
    """The state of each job of an array; None if SLURM does not answer. squeue works without accounting."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={array}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return None
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())


def _recorded(queued: Queued, records: JobRecords) -> bool:
    """Whether the job's outcome is known; then this sweep has a record of it."""
    record = JobRecords(queued.sweep_dir).read(queued.recorded_as)
    if record is not None:
        if queued.sweep_dir != records.folder.parent:
            records.write(queued.number, queued.overrides, record)
        return True
    if queued.ended_at is not None and time.monotonic() - queued.ended_at > GRACE_SECONDS:
        records.lost(
            queued.number, queued.overrides, f"SLURM's job {queued.job_id} ended as {queued.state}", queued.log
        )
        return True
    return False


def _shown(queued: Queued) -> str:
    """What a person is told of a job's state: one that has just ended may be about to be requeued."""
    return queued.state if queued.ended_at is None else "ending"


def _arrays(queued: list[Queued]) -> str:
    """The arrays that jobs belong to, as scancel takes them."""
    return " ".join(dict.fromkeys(each.job_id.partition("_")[0] for each in queued))
