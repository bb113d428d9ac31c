"""Jobs that submitit submits: jobs in other processes, known by their records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from omegaconf import DictConfig, OmegaConf

from selfdistill_cli.sweeps.choices import Choices
from selfdistill_cli.sweeps.launchers.runs_of_jobs import has_results
from selfdistill_cli.sweeps.launchers.telling import job_return
from selfdistill_cli.sweeps.plan import note_plan
from selfdistill_cli.sweeps.records import JobRecords

Jobs = Sequence[tuple[int, Sequence[str]]]
"""Job numbers and their overrides."""


class Submitted:
    """Mixed into a launcher of hydra-submitit-launcher; subclasses say how jobs are run and waited for."""

    _EXECUTOR: str
    config: DictConfig
    hydra_context: Any
    task_function: Any
    params: dict[str, Any]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        acting = Choices(self).acting(job_overrides)
        note_plan(self.config, acting, initial_job_idx)
        records = JobRecords(Path(self.config.hydra.sweep.dir))
        jobs: Jobs = list(enumerate(acting, start=initial_job_idx))
        finished = [job for job in jobs if has_results(self, job[1])]
        if finished:
            here = BasicLauncher()
            here.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self.config)
            for number, overrides in finished:
                here.launch([overrides], number)
        missing = [job for job in jobs if job not in finished]
        if missing:
            self.do(missing, records)
        return [job_return(overrides, records.read(number)) for number, overrides in jobs]

    def do(self, jobs: Jobs, records: JobRecords) -> None:
        """Have the jobs done and wait until each has a record."""
        raise NotImplementedError

    def executor(self, params: dict[str, Any]) -> Any:
        """submitit's executor with these parameters of the launcher."""
        import submitit

        shared = set(OmegaConf.structured(BaseQueueConf))
        of_executor = {f"{self._EXECUTOR}_max_num_timeout": params.pop("max_num_timeout", 0)}
        executor = submitit.AutoExecutor(folder=params.pop("submitit_folder"), cluster=self._EXECUTOR, **of_executor)
        named = {name if name in shared else f"{self._EXECUTOR}_{name}": value for name, value in params.items()}
        executor.update_parameters(**{name: value for name, value in named.items() if value is not None})
        return executor

    @staticmethod
    def arguments(number: int, overrides: Sequence[str]) -> tuple[Any, ...]:
        """What a job is called with: the parameters of the launcher's own `__call__`."""
        return list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state()
