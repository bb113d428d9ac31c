"""What a process computes on: device, precision of products, threads, and whether kernels add up in the same order."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from omegaconf import DictConfig

from selfdistill_cli.errors import UserError


def as_here(settings: DictConfig) -> DictConfig:
    """Settings (`cfg.runtime`) with which this machine computes what a run was trained for on another: without a GPU on
    the processor, and not in fp16."""
    here = settings.copy()
    if here.device != "cpu":
        here.device = "auto"
    if here.precision == "fp16" and (here.device == "cpu" or not any(_gpus().values())):
        here.precision = "fp32"
    return here


def _gpus() -> dict[str, bool]:
    """Kinds of GPU, and whether this machine has one."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def widest(device: torch.device) -> torch.dtype:
    """float64; float32 on Apple's GPUs, which have no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def make_accelerator(runtime: DictConfig) -> Accelerator:
    """An Accelerator for `runtime.device` and `runtime.precision`. Raises `UserError` if the machine has neither."""
    threads = runtime.threads or _threads_given_by_slurm()
    available = _gpus()
    if not available.get(runtime.device, True):
        raise UserError(f"runtime.device={runtime.device}: this machine has none. Use runtime.device=auto.")
    on_cpu = runtime.device == "cpu" or not any(available.values())
    precision = chosen_precision(runtime.precision, on_cpu)
    if precision == "fp16" and on_cpu:
        raise UserError("runtime.precision=fp16 needs a GPU. On a CPU use bf16 or fp32.")
    if not on_cpu and torch.cuda.is_available():
        be_deterministic(runtime.deterministic)
    # Accelerate keeps its state for the whole process; a sweep's next job may ask for another precision.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Processes wait for each other while the main one waits for a run that somebody else is doing.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=24))
    mixed = "no" if precision == "fp32" else precision
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed, kwargs_handlers=[patience])
    if threads:  # last: of several processes, Accelerate gives each its share of all that the machine has
        torch.set_num_threads(threads)
    return accelerator


def be_deterministic(asked: bool) -> None:
    """Have CUDA's kernels add up in the same order each time, or in whichever is fastest.

    Flash and memory-efficient attention heed it in their backward passes as well.
    """
    if asked:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first matrix product is made
    # It would fill every new tensor, to show who reads what nobody wrote: no need of a run.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (a property of the module)
    torch.use_deterministic_algorithms(asked)
    torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def naming_what_cannot_be_deterministic() -> Iterator[None]:
    """Turn torch's refusal of an operation into a `UserError` that names the operation and the way out."""
    try:
        yield
    except RuntimeError as error:
        refused = re.search(r"(.+?) does not have a deterministic implementation", str(error))
        if refused is None:
            raise
        raise UserError(
            f"runtime.deterministic=true: this model needs {refused[1]}, of which torch has no version on this device "
            "that gives the same bits each time. runtime.deterministic=false takes the one that it has."
        ) from error


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


def _threads_given_by_slurm() -> int | None:
    """The processors of this task, unless OMP_NUM_THREADS says another number.

    A cluster that does not bind tasks to their processors shows each of them all; jobs that share a machine
    then wait for each other's threads, and take many times as long.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(given) if given and "OMP_NUM_THREADS" not in os.environ else None
