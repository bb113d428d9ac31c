"""What a run costs beside its training: the seconds of everything else, and the most memory that it held."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")
"""Linux: writing 5 there has the process's peak begin anew."""


class Overhead:
    """Seconds since it was made, but for those inside of `not_counted`; and the peak of memory since `forget_peak`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._began = time.monotonic()

    @contextlib.contextmanager
    def not_counted(self) -> Iterator[None]:
        """What is done inside is no overhead."""
        asked = time.monotonic()
        yield
        self._began += time.monotonic() - asked

    def forget_peak(self) -> None:
        """Count the peak anew, so that one run of a sweep is not charged with what an earlier one held.

        Where the system cannot forget, the peak of the whole process stays.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        with contextlib.suppress(OSError):
            FORGET.write_text("5", encoding="ascii")

    def as_fields(self) -> dict[str, Any]:
        """As results.json has them."""
        seconds = round(time.monotonic() - self._began, 3)
        return {"overhead_seconds": seconds, "peak_memory_mb": peak_memory_mb(self.device)}


def peak_memory_mb(device: torch.device) -> float | None:
    """10^6 bytes: on a CUDA device what torch held of it, else what the process held of the machine's memory.

    None where the system does not say.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    with contextlib.suppress(OSError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
    return None
