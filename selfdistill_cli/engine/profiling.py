"""Where the time of a run goes: seconds of each phase, and a trace of a few steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

PHASES = ("data", "drawing", "forward", "loss", "backward", "optimizer", "diagnostics", "evaluation", "checkpoint")
WARM_UP_STEPS = 3
"""Before a trace begins."""


class Phases:
    """Adds up the seconds of each phase, if `measure`: then a GPU is waited for at the end of each.

    The phases are also named ranges in a trace.
    """

    def __init__(self, measure: bool, device: torch.device) -> None:
        self.measure = measure
        self.device = device
        self.seconds = dict.fromkeys(PHASES, 0.0) if measure else {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """While this lasts, time belongs to the phase `name`."""
        if not self.measure:
            yield
            return
        self._wait()
        began = time.perf_counter()
        with torch.profiler.record_function(f"sdrun: {name}"):
            yield
            self._wait()
        self.seconds[name] += time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()


class Clock:
    """Times on the device: what work on a card took, without waiting for it before both times are asked for."""

    def __init__(self, device: torch.device) -> None:
        self.on_card = device.type == "cuda"

    def now(self) -> Any:
        """This place in the device's work."""
        if not self.on_card:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, began: Any, ended: Any) -> float:
        """From one place to the other, which the device has reached."""
        return began.elapsed_time(ended) / 1000 if self.on_card else float(ended - began)


@contextlib.contextmanager
def traced(steps: int | None, path: Path | None) -> Iterator[Any]:
    """torch's profiler over `steps` steps after a warm-up, its trace written to `path` (Chrome's format).

    Gives what `step()` is called on after each step. With `steps` None, nothing is traced.
    """
    if steps is None:
        yield None
        return
    plan = torch.profiler.schedule(skip_first=WARM_UP_STEPS - 1, wait=0, warmup=1, active=steps, repeat=1)
    with torch.profiler.profile(
        schedule=plan, on_trace_ready=lambda profile: profile.export_chrome_trace(str(path))
    ) as profile:
        yield profile
