"""Processes that do the jobs of a sweep, one at a time each: forked from one that has imported everything.

A card is taken up in the forked process alone, since what CUDA has set up does not survive a fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from selfdistill_cli.errors import Interrupted, UserError
from selfdistill_cli.sweeps.choices import NumberedJob
from selfdistill_cli.system.signals import SIGNALS

CONTEXT = multiprocessing.get_context("fork")
HEAVY = (
    *("torch", "torch.utils.flop_counter", "torch.optim", "transformers", "transformers.generation.utils"),
    *("pyarrow.parquet", "safetensors.torch", "sklearn.metrics", "evaluate", "selfdistill_cli.experiment"),
)
"""What most runs import sooner or later; the rest is imported by the process that needs it. Nothing here touches a card."""
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""With it, torch counts cards without setting CUDA up."""
PARENT_GONE_SECONDS = 1.0
"""How soon a process without a job notices that the sweep was killed."""
LAST_SECONDS = 20.0
"""So long a process that was told to leave at once may take."""


@dataclass(frozen=True)
class Place:
    """What of the machine a process may use."""

    gpu: str | None
    """As CUDA_VISIBLE_DEVICES names it; None: the processor."""
    threads: int | None
    """Of the processor; None: as OMP_NUM_THREADS says."""


def import_everything() -> None:
    """What each job would import. Raises `UserError` if that takes up a card, with which no fork could work."""
    os.environ.setdefault(NVML, "1")
    for name in HEAVY:
        importlib.import_module(name)
    if _card_taken():
        raise UserError(
            "hydra/launcher=local: something that was imported has taken up a GPU, which no forked process could then use. "
            "Without hydra/launcher the jobs run one after the other."
        )
    gc.collect()
    gc.freeze()  # the collector would mark, and so copy, every page that the processes share


def visible_gpus(device: str) -> list[str]:
    """The GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them; none if `device` (of `runtime`) is the processor."""
    import torch

    if device == "cpu" or torch.version.cuda is None:
        return []
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as asked:  # counting may set CUDA up
        count = asked.submit(_cards).result()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else list(map(str, range(count)))


def _cards() -> int:
    import torch

    return torch.cuda.device_count()


def threads_each(jobs_at_once: int) -> int | None:
    """The processor's threads shared out; None where OMP_NUM_THREADS is set, which is the user's word for each job."""
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, int(os.environ.get("SLURM_CPUS_PER_TASK") or torch.get_num_threads()) // jobs_at_once)


class Worker:
    """One process. `do` does a job there; `output` is the file that a job's words go to."""

    def __init__(self, place: Place, do: Callable[[int, Sequence[str]], object], output: Callable[[int], Path]) -> None:
        self.job: NumberedJob | None = None
        """What it is at."""
        self._gone = False
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_serve, args=(theirs, place, do, output, os.getpid()))
        self._process.start()
        theirs.close()

    def give(self, job: NumberedJob) -> None:
        """Have it do a job."""
        self.job = job
        self._pipe.send_bytes(json.dumps(job).encode())

    @property
    def waited_for(self) -> list[Any]:
        """What becomes ready when the job has ended, or the process has (`multiprocessing.connection.wait`)."""
        return [self._pipe, self._process.sentinel]

    def ended(self) -> NumberedJob | None:
        """The job, if it has ended since it was given; its record says how."""
        job = self.job
        if job is None or not (self._pipe.poll() or not self._process.is_alive()):
            return None
        try:
            self._pipe.recv_bytes()
        except (EOFError, ConnectionError):
            self._gone = True  # though the system may not have let go of it yet
        self.job = None
        return job

    def alive(self) -> bool:
        """Whether the process can be given another job."""
        return not self._gone and self._process.is_alive()

    def how_it_ended(self) -> str:
        """In words, of a process that has ended without being told to, or could not write down how its job ended."""
        if self.alive():
            return "it left no result"
        self._process.join()
        code = self._process.exitcode or 0
        return "its process ended without a result" + (f" ({signal.Signals(-code).name})" if code < 0 else "")

    def send(self, name: signal.Signals) -> None:
        """Pass a signal on."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, name)

    def leave(self) -> None:
        """Tell the process to end: one with a job for the second time, which leaves it at once."""
        with contextlib.suppress(ConnectionError):
            self._pipe.send_bytes(b"")
        if self.job is not None:
            self.send(signal.SIGINT)

    def close(self) -> None:
        """See that it ends."""
        self._process.join(LAST_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(
    pipe: Connection, place: Place, do: Callable[..., object], output: Callable[[int], Path], sweep: int
) -> None:
    """The life of a worker. `sweep`: the process number of the one that forked it."""
    _settle(place)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            while not pipe.poll(PARENT_GONE_SECONDS):
                if os.getppid() != sweep:
                    return
            message = pipe.recv_bytes()
            if not message:
                return
            number, overrides = json.loads(message)
            _write_to(output(number))
            try:
                do(number, overrides)
            except Interrupted as stop:
                print(stop, flush=True)
                return
            _give_memory_back()
            pipe.send_bytes(b"done")


def _settle(place: Place) -> None:
    """Make this process one that could have been started by hand, with its share of the machine."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_DFL)  # a job hears them itself
    os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the sweep, which passes it on: else it would come twice
    if sys.platform == "linux":  # a sweep that is killed takes its jobs along, each with a checkpoint
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    os.environ.pop(NVML, None)
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    if place.threads is not None:
        import torch

        torch.set_num_threads(place.threads)
        os.environ |= {"OMP_NUM_THREADS": str(place.threads), "RAYON_NUM_THREADS": str(place.threads)}


def _write_to(file: Path) -> None:
    """Have all that is written from now on go to this file."""
    sys.stdout.flush()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as opened:
        os.dup2(opened.fileno(), 1)
        os.dup2(opened.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _give_memory_back() -> None:
    """What a finished job held of a card, for the others on it."""
    import torch

    gc.collect()
    if _card_taken():
        torch.cuda.empty_cache()


def _card_taken() -> bool:
    """Whether this process has set CUDA up."""
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def wait_for(workers: Sequence[Worker], seconds: float) -> None:
    """Until one of these has ended its job, or so long."""
    ready = [handle for worker in workers for handle in worker.waited_for]
    if ready:
        multiprocessing.connection.wait(ready, seconds)
    else:
        time.sleep(seconds)
