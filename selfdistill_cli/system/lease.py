"""A lock on a run or a cached file: one process holds it at a time, on whichever machine.

The lock is a file with the holder's host, process and start time, refreshed by a heartbeat. One whose
holder is dead is taken over at once on the same machine, after LEASE_SECONDS without a heartbeat on another.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

from selfdistill_cli.errors import UserError
from selfdistill_cli.system.files import disk_errors, new_folder

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a heartbeat may be missing; every process that shares a folder must agree on it."""
POLL_SECONDS = 0.25
LOOKS = 4
"""So often a lock is looked for that seems to be another's."""
TRIES = 10
"""So often a folder is made again that others remove."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[SoftFileLease]:
    """Hold `path` while the block runs; wait, and say for whom, while somebody else holds it."""
    lease = _lease(path)
    waiting, taken_back = False, 0
    while True:
        holder = _holder_of(lease)
        try:
            with disk_errors(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                lease.acquire(blocking=False)
            break
        except FileNotFoundError:  # another process, whose run was refused, removed the empty folder in between
            taken_back += 1
            if taken_back == TRIES:
                raise
        except Timeout:
            if holder and not waiting:
                print(f"{path.parent} is in use by {holder}: waiting for it", flush=True)
                waiting = True
            time.sleep(POLL_SECONDS)
    if holder:
        log.warning("%s was left behind by %s, which no longer runs: taken over", path, holder)
    try:
        yield lease
    finally:
        lease.release()


@contextlib.contextmanager
def missing(folder: Path) -> Iterator[Path | None]:
    """A folder to be filled, which takes the place of `folder` when the block ends; None if `folder` is there.

    One process fills it; others that want it wait. `folder` is there afterwards.
    """
    with held(folder.with_suffix(".lock")):
        if folder.is_dir():
            yield None
        else:
            with new_folder(folder) as beside:
                yield beside


def require(lease: SoftFileLease) -> None:
    """Raise `UserError` if the lock was lost: this process stood still so long that another took it."""
    if lease.compromise is not None or not _is_still_ours(lease):
        raise UserError(
            f"{lease.lock_file} was taken over by another process: this one gave no heartbeat for "
            f"{LEASE_SECONDS:.0f} seconds (suspended?) or the file was removed. It stops here, without writing a checkpoint or a result."
        )


def _is_still_ours(lease: SoftFileLease) -> bool:
    """As the file says now: what filelock says of it may be a heartbeat old. A single look may fail on a shared folder."""
    for look in range(LOOKS):
        owner = lease.owner
        if owner is not None and owner.token == lease.token:
            return True
        if look + 1 < LOOKS:
            time.sleep(POLL_SECONDS)
    return False


def in_use(path: Path) -> bool:
    """Whether a living process holds `path`. A lock that a killed one left behind does not count."""
    owner = _lease(path).owner
    try:
        silent = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if owner is None or silent > LEASE_SECONDS:
        return False
    return owner.hostname != _this_host() or _runs(owner.pid)


@functools.cache
def _this_host() -> str:
    """This machine as locks name it; filelock keeps containers of one machine apart."""
    with tempfile.TemporaryDirectory() as folder:
        lease = _lease(Path(folder) / "lock")
        with lease:
            owner = lease.owner
    return owner.hostname if owner else ""


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _lease(path: Path) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=LEASE_SECONDS, thread_local=False)


def _holder_of(lease: SoftFileLease) -> str | None:
    """`process 7 on host` for whoever holds it now, or None."""
    owner = lease.owner
    return f"process {owner.pid} on {owner.hostname}" if owner else None
