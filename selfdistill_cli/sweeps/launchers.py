"""Who runs the jobs of a sweep: this process, processes beside it, or SLURM.

Hydra's launchers give up at the first job that ends badly. These take their places: they wait for every job
and read its outcome from the record that it left (`records.JobRecords`); one that left none was killed, and
gets a record that says so. What has finished earlier is shown here and not submitted again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.config import SCIENCE
from selfdistill_cli.errors import UserError
from selfdistill_cli.lease import in_use
from selfdistill_cli.runs import RunDirectory
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.tracking.terminal import make_console, say

try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher
except ImportError:  # the extra `slurm` is not installed
    LocalLauncher = SlurmLauncher = object

Jobs = Sequence[tuple[int, Sequence[str]]]
"""Job numbers and their overrides."""


def take_their_places(chosen: str) -> None:
    """Have Hydra make our launchers where a configuration names its own. `chosen` is the one of this sweep.

    Raises `UserError` if the chosen one is not installed.
    """
    if "submitit" in chosen and SlurmLauncher is object:
        raise UserError("hydra/launcher=slurm and slurm_local need submitit: pip install 'selfdistill_cli[slurm]'.")
    for theirs, ours in ((BasicLauncher, InProcess), (LocalLauncher, LocalJobs), (SlurmLauncher, SlurmJobs)):
        Plugins.instance().class_name_to_class[f"{theirs.__module__}.{theirs.__qualname__}"] = ours


class InProcess(BasicLauncher):
    """One job after the other, in this process; those that another sweep is at come last, so that both share the work."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        waiting = list(enumerate(job_overrides, start=initial_job_idx))
        returned: dict[int, JobReturn] = {}
        while waiting:
            job = next((job for job in waiting if not self._busy(job[1])), waiting[0])
            waiting.remove(job)
            (returned[job[0]],) = super().launch([job[1]], job[0])
        return [returned[number] for number in sorted(returned)]

    def _busy(self, overrides: Sequence[str]) -> bool:
        directory = _directory(self, overrides)
        return directory is not None and in_use(directory.path / "lock")


class _Submitted:
    """What both submitit launchers share."""

    _EXECUTOR: str
    config: DictConfig
    hydra_context: Any
    task_function: Any
    params: dict[str, Any]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        records = JobRecords(Path(self.config.hydra.sweep.dir))
        jobs = list(enumerate(job_overrides, start=initial_job_idx))
        finished = [job for job in jobs if _has_results(self, job[1])]
        if finished:
            here = BasicLauncher()
            here.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self.config)
            for number, overrides in finished:
                here.launch([overrides], number)
        missing = [job for job in jobs if job not in finished]
        if missing:
            self._run(missing, records)
        return [_job_return(overrides, records.read(number)) for number, overrides in jobs]

    def _run(self, jobs: Jobs, records: JobRecords) -> None:
        """Submit the jobs and wait until each has a record."""
        raise NotImplementedError

    def _executor(self, params: dict[str, Any]) -> Any:
        import submitit

        shared = set(OmegaConf.structured(BaseQueueConf))
        of_executor = {f"{self._EXECUTOR}_max_num_timeout": params.pop("max_num_timeout", 0)}
        executor = submitit.AutoExecutor(folder=params.pop("submitit_folder"), cluster=self._EXECUTOR, **of_executor)
        named = {name if name in shared else f"{self._EXECUTOR}_{name}": value for name, value in params.items()}
        executor.update_parameters(**{name: value for name, value in named.items() if value is not None})
        return executor

    @staticmethod
    def _arguments(number: int, overrides: Sequence[str]) -> tuple[Any, ...]:
        """What a job is called with: the parameters of the launcher's own `__call__`."""
        return list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state()


class LocalJobs(_Submitted, LocalLauncher):
    """Each job a process of its own on this machine, a few at a time, each with a GPU if there are any."""

    def _run(self, jobs: Jobs, records: JobRecords) -> None:
        params = dict(self.params)
        gpus = _visible_gpus()
        at_once = params.pop("array_parallelism") or len(gpus) or 1
        executor = self._executor(params)
        free, waiting = list(range(at_once)), list(jobs)
        running: dict[int, tuple[int, Sequence[str], Any]] = {}  # by job number: slot, overrides, submitit's job
        while waiting or running:
            while waiting and free:
                number, overrides = waiting.pop(0)
                slot = free.pop(0)
                if gpus:
                    executor.update_parameters(gpus_per_node=1, local_visible_gpus=[gpus[slot % len(gpus)]])
                running[number] = slot, overrides, executor.submit(self, *self._arguments(number, overrides))
            time.sleep(0.2)
            for number, (slot, overrides, job) in list(running.items()):
                if job.done():
                    del running[number]
                    free.append(slot)
                    if records.read(number) is None:
                        records.lost(number, overrides, "its process ended without a result", Path(job.paths.stderr))


PASS_SIGNALS_ON = (
    'srun() { command srun "$@" & local child=$!; trap "kill -USR2 $child" USR2; '
    'while :; do wait "$child"; local code=$?; kill -0 "$child" 2>/dev/null || return "$code"; done; }'
)
"""For the batch script: a shell that waits for srun in the foreground dies of SIGUSR2, and its job with it.
`scancel --batch` and `--signal=B:USR2` send it there; this passes it on to srun, which passes it on to the job."""


class SlurmJobs(_Submitted, SlurmLauncher):
    """A job array. The jobs go on if this process ends; the same command again collects them."""

    def _run(self, jobs: Jobs, records: JobRecords) -> None:
        if shutil.which("sbatch") is None:
            raise UserError("hydra/launcher=slurm: there is no sbatch here. Without SLURM: hydra/launcher=slurm_local.")
        executor = self._executor(self.params | {"setup": [*self.params["setup"], PASS_SIGNALS_ON]})
        try:
            submitted = executor.map_array(self, *zip(*(self._arguments(*job) for job in jobs), strict=True))
        except Exception as error:  # submitit wraps what sbatch said in exceptions of several kinds
            raise UserError(f"SLURM took no job: {_last_line(str(error))}") from error
        array = submitted[0].job_id.partition("_")[0]
        console = make_console()
        say(console, f"{len(jobs)} jobs are SLURM's job {array}; logs: {submitted[0].paths.folder.parent}")
        say(console, f"Ctrl-C leaves them there; the same command collects them, `scancel {array}` ends them.")
        waiting = dict(zip((job.job_id for job in submitted), zip(jobs, submitted, strict=True), strict=True))
        pause, told = 1.0, ""
        ended: dict[str, float] = {}  # when SLURM first said so, without a record being there
        while waiting:
            states = _squeue(array)
            for job_id, ((number, overrides), job) in list(waiting.items()):
                state = "unknown" if states is None else states.get(job_id, "gone")
                since = ended.setdefault(job_id, time.monotonic()) if state in ENDED else ended.pop(job_id, None)
                if records.read(number) is not None:
                    del waiting[job_id]
                elif state in ENDED and since is not None and time.monotonic() - since > GRACE_SECONDS:
                    del waiting[job_id]
                    records.lost(number, overrides, f"SLURM's job {job_id} ended as {state}", Path(job.paths.stderr))
            words = _summary(len(jobs) - len(waiting), [(states or {}).get(job, "unknown") for job in waiting])
            if words != told:
                say(console, words)
                told, pause = words, 1.0
            if waiting:
                time.sleep(pause)
                pause = min(15.0, 1.2 * pause)  # a cluster's controller has others to answer


ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "TIMEOUT",
        "REVOKED",
        "gone",
    ]
)
"""SLURM's states after which nothing comes. A preempted or requeued job goes by PENDING."""
GRACE_SECONDS = 10.0
"""So long a job has to stay in such a state: one that is being requeued shows it for a moment, and a shared
file system may show a job's record late."""


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


def _summary(finished: int, states: list[str]) -> str:
    """`2 finished, 1 running, 1 pending`."""
    counts = {state: states.count(state) for state in sorted(states)}
    return ", ".join([f"{finished} finished", *(f"{count} {state.lower()}" for state, count in counts.items())])


def _visible_gpus() -> list[int]:
    """The numbers of the GPUs that this process may use."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(name.isdigit() for name in named):
        return [int(name) for name in named]
    return list(range(torch.cuda.device_count()))


def _directory(launcher: Any, overrides: Sequence[str]) -> RunDirectory | None:
    """The run directory of a job; None if its configuration is at fault, which the job itself will say."""
    try:
        cfg = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
        return None if cfg.rerun else RunDirectory(OmegaConf.masked_copy(cfg, [*SCIENCE, "paths"]))
    except Exception:
        return None


def _has_results(launcher: Any, overrides: Sequence[str]) -> bool:
    directory = _directory(launcher, overrides)
    return directory is not None and (directory.path / "results.json").is_file()


def _job_return(overrides: Sequence[str], record: dict[str, Any] | None) -> JobReturn:
    """What a sweeper gets: the score, or NaN for a job that failed."""
    score = float((record or {}).get("score", "nan"))
    returned = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    returned.return_value = score
    return returned


def _last_line(words: str) -> str:
    return [line.strip() for line in words.splitlines() if line.strip()][-1]
