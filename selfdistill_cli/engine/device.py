"""Device, precision and threads through Accelerate."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError


def make_accelerator(runtime: DictConfig) -> Accelerator:
    """An Accelerator for `runtime.device` and `runtime.precision`. Raises `UserError` if the machine has neither."""
    threads = runtime.threads or _threads_given_by_slurm()
    if threads:
        torch.set_num_threads(threads)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(runtime.device, True):
        raise UserError(f"runtime.device={runtime.device}: this machine has none. Use runtime.device=auto.")
    on_cpu = runtime.device == "cpu" or not any(available.values())
    if runtime.precision == "fp16" and on_cpu:
        raise UserError("runtime.precision=fp16 needs a GPU. On a CPU use bf16 or fp32.")
    # Accelerate keeps its state for the whole process; a sweep's next job may ask for another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = {"fp32": "no"}.get(runtime.precision, runtime.precision)
    # Processes wait for each other while the main one waits for a run that somebody else is doing.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=24))
    return Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[patience])


def _threads_given_by_slurm() -> int | None:
    """The processors of this task, unless OMP_NUM_THREADS says another number.

    A cluster that does not bind tasks to their processors shows each of them all; jobs that share a machine
    then wait for each other's threads, and take many times as long.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(given) if given and "OMP_NUM_THREADS" not in os.environ else None
