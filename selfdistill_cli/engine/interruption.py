"""Asked to stop: finish the step, write a checkpoint, leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequest:
    """Becomes `wanted` at the first SIGINT or SIGTERM; the second one acts at once."""

    def __init__(self) -> None:
        self.wanted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs. Does nothing outside the main thread, where signals cannot be handled."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {}

        def request(number: int, frame: FrameType | None) -> None:
            self.wanted = True
            for name, handler in before.items():
                signal.signal(name, handler)

        for name in (signal.SIGINT, signal.SIGTERM):
            before[name] = signal.signal(name, request)
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
