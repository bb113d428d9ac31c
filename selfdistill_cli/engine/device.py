"""Device, precision and threads through Accelerate."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError


def make_accelerator(runtime: DictConfig) -> Accelerator:
    """An Accelerator for `runtime.device` and `runtime.precision`. Raises `UserError` if the machine has neither."""
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
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
