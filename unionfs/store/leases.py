"""Who adds to the store just now, told by flock(2) on ``locks/adding``.

What is being added is for a while named by no row: a layer until its image is there, a directory until its transaction is
committed.
Whoever adds holds the lock shared; whoever removes what no row names holds it alone.  The kernel drops the lock of a process that
is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = "locks"
_NAME = "adding"


@contextlib.contextmanager
def adding(root: Path) -> Iterator[None]:
    """Nothing of the store at ``root`` is collected until the end.  Waits for a collector, which is quick.

    Raises:
        OSError: the lock file cannot be made.
    """
    fd = _open(root)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def collecting(root: Path) -> Iterator[bool]:
    """Nobody begins to add until the end; False: somebody is adding already, so nothing may be collected now.

    Raises:
        OSError: the lock file cannot be made.
    """
    fd = _open(root)
    try:
        yield _lock_alone(fd)
    finally:
        os.close(fd)


def _lock_alone(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(root: Path) -> int:
    directory = root / _DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
