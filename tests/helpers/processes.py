"""Real commands in processes of their own: forked from a server that has imported what takes seconds, or fresh."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parent.parent.parent
SDRUN, SDEVALUATE, SDREPORT = "selfdistill_cli.train", "selfdistill_cli.evaluate", "selfdistill_cli.reports.command"
READ_AT_IMPORT = ("PYTHON", "HF_", "OMP_", "MKL_", "TRANSFORMERS_", "TORCH")
"""Variables that Python or libraries read when they start or are imported: a process with others is a fresh one."""


@dataclass
class Finished:
    """A process that has ended."""

    code: int
    out: str
    err: str


Sdrun = Callable[..., Finished]


def user_environment(folder: Path) -> dict[str, str]:
    """The environment of a user without a network, whose runs land below `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SDRUN_", "WANDB_", "HF_"))}
    further = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return kept | {
        "SDRUN_OUTPUTS": str(folder / "outputs"),
        "SDRUN_DATA": str(folder / "data"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens: a hub that cannot be reached
        "COLUMNS": "160",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *further]),  # packages may lie in a folder of their own
        "OMP_NUM_THREADS": "1",  # two tests run at a time
    }


class Running:
    """A process in the background; `wait_for(seconds)` gives its exit code, or None if it goes on."""

    def __init__(self, pid: int, wait_for: Callable[[float], int | None], out: IO[bytes], err: IO[bytes]) -> None:
        self.pid = pid
        self._wait_for, self._files = wait_for, (out, err)
        self.code: int | None = None

    def poll(self, seconds: float = 0) -> int | None:
        """The exit code, or None if it has not ended within these seconds."""
        if self.code is None:
            self.code = self._wait_for(seconds)
        return self.code

    def said(self) -> tuple[str, str]:
        """What it has written to standard output and standard error until now."""
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in self._files]
        return texts[0], texts[1]

    def send_signal(self, name: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, name)

    def end(self, timeout: float = 300) -> Finished:
        """Wait for its end; kill it and fail if that takes longer."""
        code = self.poll(timeout)
        if code is None:
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(f"no end within {timeout:g} s: {self.said()}")
        return Finished(code, *self.said())


def start(
    folder: Path, environment: Mapping[str, str], *arguments: str, module: str = SDRUN, fresh: bool = False
) -> Running:
    """Start `python -m <module> <arguments>` in this folder; `fresh`: by an interpreter that has imported nothing."""
    # They live as long as the object of the process.
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    server = None if fresh else fork_server()
    if server is None or not server.suits(environment):
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )

        def wait_for(seconds: float) -> int | None:
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None

        return Running(process.pid, wait_for, out, err)
    message = {"module": module, "arguments": arguments, "environment": dict(environment), "folder": str(folder)}
    answers = server.fork(json.dumps(message).encode(), out.fileno(), err.fileno())
    pid = int(answers.readline())

    def wait_for_child(seconds: float) -> int | None:
        return int(answers.readline()) if select.select([answers], [], [], seconds)[0] else None

    return Running(pid, wait_for_child, out, err)


class ForkServer:
    """The client's side of `fork_server.py`."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory()
        self._environment = user_environment(Path(self._home.name))
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        quiet = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # Arrow would start one when it is imported
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.fork_server"],
            cwd=REPOSITORY,
            env=self._environment | quiet,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the tests' affair, and ends them and it
        )
        theirs.close()

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether a child can be what a fresh interpreter with this environment would be."""

        def relevant(variables: Mapping[str, str]) -> dict[str, str]:
            names = [name for name in variables if name.startswith(READ_AT_IMPORT)]
            return {name: variables[name] for name in names if name not in ("HF_HOME", "PYTHONPATH")}

        # Further folders of PYTHONPATH come last; what comes first could hide what the server has imported.
        path = environment.get("PYTHONPATH", "").split(os.pathsep)
        return (
            path[0] == str(REPOSITORY)
            and "HF_HOME" in environment
            and relevant(environment) == relevant(self._environment)
        )

    def fork(self, message: bytes, out: int, err: int) -> socket.SocketIO:
        """A new child; the answers are its process number and, later, its exit code."""
        ours, theirs = socket.socketpair()
        with theirs, open(os.devnull, "rb") as nothing:
            socket.send_fds(self._control, [message], [theirs.fileno(), nothing.fileno(), out, err])
        with ours:
            return ours.makefile("rb", buffering=0)

    def close(self) -> None:
        """End it, and with it the children that a failed test left."""
        self._control.close()
        self._process.wait()
        self._home.cleanup()


@cache
def fork_server() -> ForkServer | None:
    """This process's server; None where processes cannot be forked."""
    if sys.platform != "linux":
        return None
    server = ForkServer()
    atexit.register(server.close)
    return server


def run_command(
    folder: Path,
    environment: Mapping[str, str],
    *arguments: str,
    module: str = SDRUN,
    fresh: bool = False,
    timeout: float = 300,
) -> Finished:
    """The command in a process of its own, from a folder that is not the repository; waits for its end."""
    return start(folder, environment, *arguments, module=module, fresh=fresh).end(timeout)


def start_together(
    folder: Path, environment: Mapping[str, str], *arguments: str, module: str = SDRUN, count: int = 2
) -> list[Running]:
    """Several processes of one run, with the variables that torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return [
        start(folder, {**environment, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, *arguments, module=module)
        for rank in range(count)
    ]


def started(folder: Path, environment: Mapping[str, str], *arguments: str, until: str) -> Running:
    """`sdrun` in the background, once a file that `until` names below outputs/ is there and not empty."""
    process = start(folder, environment, *arguments)
    wait_for_file(process, folder / "outputs", until)
    return process


def wait_for_file(process: Running, outputs: Path, pattern: str, seconds: float = 120) -> None:
    """Wait until a running process has written something into a file that `pattern` names below `outputs`."""
    deadline = time.monotonic() + seconds
    while not any(path.stat().st_size for path in outputs.glob(pattern)):
        assert process.poll() is None, process.said()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed_together(folder: Path, environment: dict[str, str], at: int, *arguments: str) -> tuple[Path, Path]:
    """Outputs of two processes that were left alone, and of two that were killed at fault point `at` of the first.

    `environment` goes on with the outputs of the killed ones.
    """
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    environment["SDRUN_OUTPUTS"] = str(undisturbed)
    assert [process.end().code for process in start_together(folder, environment, *arguments)] == [0, 0]
    environment["SDRUN_OUTPUTS"] = str(killed)
    first, second = start_together(folder, environment | {"SDRUN_FAULT_AT": str(at)}, *arguments)
    assert first.end().code == -signal.SIGKILL
    second.send_signal(signal.SIGKILL)  # as torchrun does
    second.end()
    return undisturbed, killed
