"""A lock: held by one, kept by its heartbeat, taken over from the dead, its loss noticed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import SoftFileLease

from selfdistill_cli.errors import UserError
from selfdistill_cli.system import lease
from selfdistill_cli.system.lease import held, in_use, require

pytestmark = pytest.mark.thorough

ELSEWHERE = (
    "filelock/2\npid=7\nhost=elsewhere\nmode=lease\ntoken=0123456789abcdef0123456789abcdef\nduration={}\nstart=5\n"
)
"""A lock as another machine's process leaves it."""


def test_a_claim_is_in_use_while_it_is_held(tmp_path: Path) -> None:
    assert not in_use(tmp_path / "lock")
    with held(tmp_path / "lock"):
        assert in_use(tmp_path / "lock")
    assert not in_use(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_a_claim_of_another_machine_is_in_use_while_it_gives_heartbeats(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(ELSEWHERE.format(lease.LEASE_SECONDS))
    assert in_use(lock)
    last = time.time() - lease.LEASE_SECONDS - 1
    os.utime(lock, (last, last))
    assert not in_use(lock)


def test_the_next_one_waits_until_it_is_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = []

    def second() -> None:
        with held(tmp_path / "lock"):
            order.append("second")

    with held(tmp_path / "lock"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(1.0)
        order.append("first")
    waiting.join(timeout=10)
    assert order == ["first", "second"]
    assert "waiting for it" in capsys.readouterr().out


def test_a_dead_process_of_this_machine_loses_its_claim_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = (
        "import os, sys; from pathlib import Path; from selfdistill_cli.system.lease import held\n"
        "with held(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "lock")], check=False)
    assert (tmp_path / "lock").is_file()
    assert not in_use(tmp_path / "lock")
    never = SimpleNamespace(sleep=lambda seconds: pytest.fail("it waited"))
    monkeypatch.setattr(lease, "time", never)
    with held(tmp_path / "lock"):
        assert "was left behind by process" in caplog.text


def test_a_silent_process_of_another_machine_loses_its_claim_after_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    (tmp_path / "lock").write_text(ELSEWHERE.format(2.0))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), held(tmp_path / "lock"):
        assert time.monotonic() - began >= 2.0
    assert "was left behind by process 7 on elsewhere" in caplog.text


@pytest.mark.slow
def test_a_process_of_another_machine_that_gives_heartbeats_keeps_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.5)
    (tmp_path / "lock").write_text(ELSEWHERE.format(1.5))
    taken = threading.Event()

    def other() -> None:
        with held(tmp_path / "lock"):
            taken.set()

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(8):  # four seconds of heartbeats
        (tmp_path / "lock").touch()
        assert not taken.wait(0.5)
    assert taken.wait(10)  # and none any more
    thread.join()


def test_a_lost_claim_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    with held(tmp_path / "lock") as mine:
        require(mine)
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").write_text(ELSEWHERE.format(0.6))
        deadline = time.monotonic() + 10
        while mine.compromise is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(UserError, match="was taken over by another process"):
            require(mine)


def test_a_lost_claim_is_noticed_before_the_next_heartbeat(tmp_path: Path) -> None:
    """A process that was asleep for minutes asks before filelock has looked again."""
    for lost in ("to another", "with the file"):
        with held(tmp_path / lost) as mine:
            (tmp_path / lost).unlink()
            if lost == "to another":
                (tmp_path / lost).write_text(ELSEWHERE.format(60))
            assert mine.compromise is None
            with pytest.raises(UserError, match="was taken over by another process"):
                require(mine)


def test_a_folder_that_another_process_takes_back_in_between_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's run was refused, so that it removes the empty folders above its own."""
    folder, acquire, calls = tmp_path / "task" / "model", SoftFileLease.acquire, []

    def taken_back_first(self: SoftFileLease, **settings: Any) -> object:
        calls.append(1)
        if len(calls) == 1:
            folder.rmdir()
            raise FileNotFoundError(folder)
        return acquire(self, **settings)

    monkeypatch.setattr(SoftFileLease, "acquire", taken_back_first)
    with held(folder / "lock"):
        assert (folder / "lock").is_file()
    assert len(calls) == 2
