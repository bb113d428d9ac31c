"""The default: one job after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn

from selfdistill_cli.sweeps.choices import Choices
from selfdistill_cli.sweeps.launchers.runs_of_jobs import directory_of
from selfdistill_cli.sweeps.plan import note_plan
from selfdistill_cli.system.lease import in_use


class InProcess(BasicLauncher):
    """Jobs that another sweep is at come last, so that two sweeps at once share the work."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        jobs = Choices(self).acting(job_overrides)
        note_plan(self.config, jobs, initial_job_idx)
        waiting: list[tuple[int, Sequence[str]]] = list(enumerate(jobs, start=initial_job_idx))
        returned: dict[int, JobReturn] = {}
        while waiting:
            job = next((job for job in waiting if not self._busy(job[1])), waiting[0])
            waiting.remove(job)
            (returned[job[0]],) = super().launch([job[1]], job[0])
        return [returned[number] for number in sorted(returned)]

    def _busy(self, overrides: Sequence[str]) -> bool:
        directory = directory_of(self, overrides)
        return directory is not None and in_use(directory.path / "lock")
