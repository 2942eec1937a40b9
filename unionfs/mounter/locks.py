"""Who may write to an upper and its work directory: one mount at a time, told by flock(2) on the directories themselves.

The kernel drops the locks of a process that ends, however it ends, so nothing is left to clean up after a killed daemon.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from unionfs.mounter.errors import RefusedError
from unionfs.mounter.registry import State, registered_mounts

_PAUSE = 0.02


@contextlib.contextmanager
def locked(directory: Path, patience: float = 0) -> Iterator[None]:
    """Hold ``directory`` for this mount alone.

    ``patience``: how many seconds to wait for a daemon that is about to end.  umount(8) does not wait for it, so whoever mounts
    again right after would be refused for a mount that is not there any more.

    Raises:
        RefusedError: another mount has it.
        OSError: it cannot be opened, or its filesystem has no locks.
    """
    fd = lock(directory, patience)
    try:
        yield
    finally:
        os.close(fd)


def lock(directory: Path, patience: float = 0) -> int:
    """The same until the descriptor that it returns is closed."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, directory, time.monotonic() + patience)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, directory: Path, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline or _has_mount(directory):
                remedy = "unmount that one (unionfs ls shows them), or use another directory"
                raise RefusedError(str(directory), "in use by another union", remedy) from None
            time.sleep(_PAUSE)


def _has_mount(directory: Path) -> bool:
    return any(
        str(directory) in (mount.record.upper, mount.record.work) and mount.state is not State.DETACHED
        for mount in registered_mounts()
    )
