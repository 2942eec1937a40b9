"""Who may write to an upper and its work directory: one mount at a time, told by flock(2) on the directories themselves.

The kernel drops the locks of a process that ends, however it ends, so nothing is left to clean up after a killed daemon.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from unionfs.mounter.errors import RefusedError


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold ``directory`` for this mount alone.

    Raises:
        RefusedError: another mount has it.
        OSError: it cannot be opened, or its filesystem has no locks.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, directory)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        remedy = "unmount that one (unionfs ls shows them), or use another directory"
        raise RefusedError(str(directory), "in use by another union", remedy) from None
