"""Asked to stop: finish the step, write a checkpoint, leave. Asked twice, or outside the steps: leave at once.

SIGINT and SIGTERM come from people, terminals and preempting clusters; SIGUSR1 and SIGUSR2 are what SLURM
sends ahead of a time limit (`--signal`, and submitit's default).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from selfdistill_cli.errors import Interrupted
from selfdistill_cli.system.words import for_screen

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SAME_REQUEST_SECONDS = 0.5
"""torchrun and srun pass on a signal that the terminal sent to every process already: still one request."""


class StopRequest:
    """What this process was asked, and whether it may leave at once."""

    def __init__(self) -> None:
        self.clear()

    def clear(self, terminated_by_others: bool = False) -> None:
        """Nothing was asked yet. `terminated_by_others`: SIGTERM announces an end that somebody else brings."""
        self.signal: signal.Signals | None = None
        self.leaving: Interrupted | None = None
        self.in_steps = False
        self.terminated_by_others = terminated_by_others
        self._first: dict[int, float] = {}

    def goes_on_after(self, name: signal.Signals) -> bool:
        """Whether this request asks for a checkpoint only.

        A job that SLURM preempts is sent SIGTERM and, after a grace time, SIGKILL; only when it ends by that
        does SLURM requeue it. One that leaves by itself counts as failed. So submitit lets SIGTERM pass, and so
        do we in every batch job of SLURM's.
        """
        return name == signal.SIGTERM and self.terminated_by_others

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises `Interrupted` unless a step is to be finished first."""
        name = signal.Signals(number)
        if self.goes_on_after(name):
            self.signal = name
            _write("SIGTERM: a checkpoint after this step, and on until the job is killed")
            return
        now = time.monotonic()
        again = number in self._first and now - self._first[number] > SAME_REQUEST_SECONDS
        self._first.setdefault(number, now)
        if not self.in_steps or again:
            self.leaving = Interrupted("stopped at once: the same command goes on from the last checkpoint", name)
            raise self.leaving
        if self.signal is None:
            self.signal = name
            _write("finishing this step, then writing a checkpoint; once more leaves at once")


stop_request = StopRequest()
"""One for the process, as signals are; `listening` begins a new one."""


@contextmanager
def listening() -> Iterator[None]:
    """Hear requests to stop while the block runs.

    Whoever listened before (submitit, which requeues a SLURM job) is given the signal once the block has
    been left in good order. Outside the main thread, where signals cannot be handled, nothing is heard.
    """
    stop_request.clear(terminated_by_others=_in_batch_job())
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {name: signal.signal(name, stop_request.receive) for name in SIGNALS}
    unraisable, sys.unraisablehook = sys.unraisablehook, _silent_when_leaving(sys.unraisablehook)
    interrupted: Interrupted | None = None
    try:
        yield
    except Interrupted as stop:
        interrupted = stop
        raise
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        sys.unraisablehook = unraisable
        stop_request.clear()  # it was of this block: the next run of this process was asked nothing
        if interrupted is not None:
            earlier = before[interrupted.signal]
            if _is_foreign(earlier):
                earlier(interrupted.signal, None)


def _write(words: str) -> None:
    """Say something from within a handler: not by print, in the middle of which the signal may have come.

    On a terminal it takes the place of the progress line, of which a half would stay.
    """
    clear = "\r\x1b[2K" if os.isatty(2) else ""
    os.write(2, f"{clear}{for_screen(f'sdrun: {words}')}\n".encode())


def _silent_when_leaving(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A hook for exceptions that Python ignores: not a traceback for one that `leaving_when_asked` raises again."""

    def report(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            hook(unraisable)

    return report


def _in_batch_job() -> bool:
    """Whether SLURM started this process, and not for somebody at a terminal."""
    return "SLURM_PROCID" in os.environ and not (sys.stdin and sys.stdin.isatty())


def _is_foreign(handler: Any) -> bool:
    """Whether somebody handles a signal, not the system or Python by default."""
    return callable(handler) and handler is not signal.default_int_handler


@contextmanager
def leaving_when_asked() -> Iterator[None]:
    """Make sure that `Interrupted` leaves the block, once a handler has raised it.

    A handler runs between any two instructions, in the middle of whatever library code. There its exception
    may be turned into another one, or be ignored altogether (in a destructor or a callback).
    """
    try:
        yield
    except Interrupted:
        raise
    except BaseException as error:
        if stop_request.leaving is not None:
            raise stop_request.leaving from error
        raise
    if stop_request.leaving is not None:
        raise stop_request.leaving


@contextmanager
def finishing_steps() -> Iterator[StopRequest]:
    """While the block runs a first request only shows as `signal`, for the block to act on between steps.

    Raises `Interrupted` at its beginning if that was raised before, and got lost.
    """
    if stop_request.leaving is not None:
        raise stop_request.leaving
    stop_request.in_steps = True
    try:
        yield stop_request
    finally:
        stop_request.in_steps = False
