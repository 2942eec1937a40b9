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

from unionfs.store.descriptors import opened_alone

_DIRECTORY = "locks"
_NAME = "adding"


@contextlib.contextmanager
def adding(root: Path) -> Iterator[None]:
    """Nothing of the store at ``root`` is collected until the end.  Waits for a collector, which is quick.

    Raises:
        OSError: the lock file cannot be made.
    """
    with _locked(root, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def collecting(root: Path) -> Iterator[bool]:
    """Nobody begins to add until the end; False: somebody is adding already, so nothing may be collected now.

    Raises:
        OSError: the lock file cannot be made.
    """
    with _locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_mine:
        yield is_mine


@contextlib.contextmanager
def _locked(root: Path, operation: int) -> Iterator[bool]:
    directory = root / _DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opened_alone(directory / _NAME, os.O_RDWR | os.O_CREAT) as fd:
        try:
            fcntl.flock(fd, operation)
        except BlockingIOError:
            is_mine = False
        else:
            is_mine = True
        yield is_mine
