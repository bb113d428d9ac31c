"""A runtime on this processor, as a run has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from omegaconf import OmegaConf

from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.profiling import Phases
from selfdistill_cli.engine.runtime import Runtime


def cpu_runtime(batching: Batching | int = 4096, measure: bool = False, shard: str = "none") -> Runtime:
    """float32, with micro-batches of this form or of so many tokens; `measure`: the time of phases; `shard`: `runtime.shard`."""
    shapes = Batching(batching) if isinstance(batching, int) else batching
    settings = OmegaConf.create(
        {"precision": "fp32", "compile": False, "trace_steps": None, "checkpoint_every": "auto", "shard": shard}
    )
    return Runtime(settings, Accelerator(cpu=True), shapes, Phases(measure, torch.device("cpu")))


@contextlib.contextmanager
def bf16_runtime(batching: Batching) -> Iterator[Runtime]:
    """The same with products in bf16; Accelerate keeps the precision for the whole process, so it ends with this."""
    like = cpu_runtime(batching)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield replace(like, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    AcceleratorState._reset_state(reset_partial_state=True)
