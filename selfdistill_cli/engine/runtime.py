"""Device, precision and threads through Accelerate."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from omegaconf import DictConfig

from selfdistill_cli.engine.batching import Batching
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
    precision = chosen_precision(runtime.precision, on_cpu)
    if precision == "fp16" and on_cpu:
        raise UserError("runtime.precision=fp16 needs a GPU. On a CPU use bf16 or fp32.")
    # Accelerate keeps its state for the whole process; a sweep's next job may ask for another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Processes wait for each other while the main one waits for a run that somebody else is doing.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=24))
    mixed = "no" if precision == "fp32" else precision
    return Accelerator(cpu=on_cpu, mixed_precision=mixed, kwargs_handlers=[patience])


def chosen_precision(asked: str, on_cpu: bool) -> str:
    """fp32, bf16 or fp16; of `auto`, bf16 where the processor or GPU multiplies it in hardware, else fp32."""
    if asked != "auto":
        return asked
    return "bf16" if (_cpu_has_bf16() if on_cpu else _gpu_has_bf16()) else "fp32"


def precision_of(accelerator: Accelerator) -> str:
    """The precision of products in which this accelerator computes: fp32, bf16 or fp16."""
    return "fp32" if accelerator.mixed_precision == "no" else str(accelerator.mixed_precision)


def _cpu_has_bf16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def _gpu_has_bf16() -> bool:
    # Compute capability 8 (Ampere); older ones only emulate it.
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def make_batching(token_budget: int, accelerator: Accelerator, dtype: str) -> Batching:
    """Batches under the budget, in shapes that suit the device's kernels. `dtype`: of the model's weights."""
    if accelerator.device.type == "cpu" and "bf16" in (precision_of(accelerator), dtype.replace("bfloat16", "bf16")):
        # oneDNN compiles each product anew for every shape, which takes longer than the product itself.
        return Batching.of_few_shapes(token_budget)
    return Batching(token_budget)


def _threads_given_by_slurm() -> int | None:
    """The processors of this task, unless OMP_NUM_THREADS says another number.

    A cluster that does not bind tasks to their processors shows each of them all; jobs that share a machine
    then wait for each other's threads, and take many times as long.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(given) if given and "OMP_NUM_THREADS" not in os.environ else None
