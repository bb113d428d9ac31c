"""hydra/launcher=slurm_local: submitit's local executor."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher

from selfdistill_cli.sweeps.launchers.submitted import Jobs, Submitted, summary, time_left
from selfdistill_cli.sweeps.records import JobRecords
from selfdistill_cli.tracking.terminal import make_console, say


class LocalJobs(Submitted, LocalLauncher):
    """Each job a process of its own on this machine, a few at a time, each with a GPU if there are any."""

    def do(self, jobs: Jobs, records: JobRecords) -> None:
        params = dict(self.params)
        gpus = _visible_gpus()
        at_once = params.pop("array_parallelism") or len(gpus) or 1
        if at_once > 1:  # jobs that all use all processors would wait for each other's threads
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))
        executor = self.executor(params)
        free, waiting = list(range(at_once)), list(jobs)
        running: dict[int, tuple[int, Sequence[str], Any]] = {}  # by job number: slot, overrides, submitit's job
        console, told = make_console(), ""
        while waiting or running:
            while waiting and free:
                number, overrides = waiting.pop(0)
                slot = free.pop(0)
                if gpus:
                    executor.update_parameters(gpus_per_node=1, local_visible_gpus=[gpus[slot % len(gpus)]])
                running[number] = slot, overrides, executor.submit(self, *self.arguments(number, overrides))
            states = ["running"] * len(running) + ["waiting"] * len(waiting)
            words = summary(len(jobs) - len(states), states)
            if words != told:
                say(console, words + time_left(states, records.all()))
                told = words
            time.sleep(0.2)
            for number, (slot, overrides, job) in list(running.items()):
                if job.done():
                    del running[number]
                    free.append(slot)
                    if records.read(number) is None:
                        records.lost(number, overrides, "its process ended without a result", Path(job.paths.stderr))


def _visible_gpus() -> list[int]:
    """The numbers of the GPUs that this process may use."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(name.isdigit() for name in named):
        return [int(name) for name in named]
    return list(range(torch.cuda.device_count()))
