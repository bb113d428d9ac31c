"""A runtime on this processor, as a run has it."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from omegaconf import OmegaConf

from selfdistill_cli.engine.batching import Batching
from selfdistill_cli.engine.profiling import Phases
from selfdistill_cli.engine.runtime import Runtime


def cpu_runtime(batching: Batching | int = 4096, measure: bool = False) -> Runtime:
    """float32, with micro-batches of this form or of so many tokens; `measure`: the time of phases."""
    shapes = Batching(batching) if isinstance(batching, int) else batching
    settings = OmegaConf.create({"precision": "fp32", "trace_steps": None, "checkpoint_every": "auto"})
    return Runtime(settings, Accelerator(cpu=True), shapes, Phases(measure, torch.device("cpu")))
