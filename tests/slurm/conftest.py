"""A real one-node SLURM for the tests of this folder (`make test-slurm`); where it cannot be had they say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import REPOSITORY, Finished, run_command, user_environment
from tests.helpers.runs import SMALL

SCRIPT = REPOSITORY / "scripts" / "slurm_local.sh"
ON_THIS_NODE = (
    "hydra/launcher=slurm",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
)
LONG = (*SMALL, "schedule.epochs=160", "schedule.evaluate_every=50", "runtime.checkpoint_every=20 steps")
"""800 steps: long enough to be interrupted."""
LONGER = (*LONG, "schedule.epochs=1400")
"""7,000 steps: long enough for a time limit of a minute, at which SLURM looks twice a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need the marker; `make test` leaves them out by it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SLURM up, and down again at the end."""
    if os.geteuid() != 0:
        pytest.skip("SLURM tests need root, to start slurmctld and slurmd")
    folder = Path(os.environ.get("SLURM_LOCAL_DIR", "/var/tmp/slurm_local"))
    up = subprocess.run([SCRIPT, "up"], capture_output=True, text=True, check=False)
    if up.returncode == 3:
        pytest.skip(f"SLURM tests: {up.stderr}")
    assert up.returncode == 0, up.stdout + up.stderr
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    subprocess.run([SCRIPT, "down"], check=True)


@pytest.fixture(autouse=True)
def empty_queue(slurm: None) -> Iterator[None]:
    """Whatever a test leaves running ends with it."""
    yield
    subprocess.run(["scancel", "--full", "--user", "root"], check=True)
    deadline = time.monotonic() + 60
    while squeue() and time.monotonic() < deadline:
        time.sleep(0.2)


class Sweep:
    """`sdrun -m hydra/launcher=slurm …` in the background."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.log = folder / "sweep.log"
        command = [sys.executable, "-m", "selfdistill_cli.train", "-m", *ON_THIS_NODE, *words]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, cwd=folder, env=user_environment(folder), stdout=out, stderr=subprocess.STDOUT
            )

    def until(self, met: Callable[[], object], seconds: float = 120) -> None:
        """Wait for something to become true while the sweep goes on."""
        deadline = time.monotonic() + seconds
        while not met():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text() + squeue("--long")
            time.sleep(0.1)

    def until_checkpoint(self) -> None:
        """Wait until the run has written a checkpoint."""
        self.until(lambda: list(self.folder.glob("outputs/*/*/*/*/checkpoints/step-*")))

    def end(self, seconds: float = 400) -> Finished:
        """Wait for the end, giving every requeued job its start at once."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.log.read_text() + squeue("--long")
            hurry_requeued()
            time.sleep(0.5)
        return Finished(self.process.returncode, self.log.read_text(), "")


def wait(met: Callable[[], object], seconds: float = 240) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, squeue("--long")
        time.sleep(0.5)


def hurry_requeued() -> bool:
    """Whether all jobs have ended. Takes away the two minutes for which SLURM holds requeued jobs back, once the last start has ended wholly.

    That is what the two minutes are for: news of the old start's end, coming late, would be taken for the new one's.
    """
    for line in squeue("--format=%i %r", "--array").splitlines():
        job, _, reason = line.partition(" ")
        daemons = subprocess.run(["pgrep", "-f", f"slurmstepd: \\[{job}\\."], capture_output=True, check=False)
        if reason == "BeginTime" and daemons.returncode == 1:
            time.sleep(1)
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False)
    return not squeue()


def squeue(*words: str) -> str:
    """What squeue says of the jobs that have not ended."""
    return subprocess.run(["squeue", "--noheader", *words], capture_output=True, text=True, check=True).stdout


def the_machine_dies() -> None:
    """Kill all that runs for jobs, and slurmd; then the machine is back, and SLURM looks what became of its jobs."""
    folder = Path(os.environ["SLURM_CONF"]).parent
    for what in ("slurmstepd", "slurm_script", "submitit.core._submit"):
        subprocess.run(["pkill", "-KILL", "-f", what], check=False)
    os.kill(int((folder / "slurmd.pid").read_text()), signal.SIGKILL)
    time.sleep(1)
    subprocess.run(["slurmd"], check=True)
    deadline = time.monotonic() + 60
    while "PENDING" not in squeue("--format=%T"):  # it gives a job's script some seconds to appear
        assert time.monotonic() < deadline, squeue("--long")
        subprocess.run(["scontrol", "reconfigure"], check=True)
        time.sleep(2)


def job_id() -> str:
    """The one job that runs."""
    (found,) = squeue("--format=%i", "--states=RUNNING").split()
    return found


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of the run that the tests interrupt, left alone."""
    return left_alone(tmp_path_factory.mktemp("undisturbed"), *LONG)


@pytest.fixture(scope="session")
def undisturbed_longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the longer run."""
    return left_alone(tmp_path_factory.mktemp("longer"), *LONGER)


def left_alone(folder: Path, *words: str) -> Path:
    """The outputs of a run without SLURM."""
    ended = run_command(folder, user_environment(folder), "method=dynsdpb", *words)
    assert ended.code == 0, ended.err
    return folder / "outputs"
