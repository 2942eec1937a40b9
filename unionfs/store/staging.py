"""``staging/``: directories in which something is made, or waits to be removed, each held by a lock of its maker.

The kernel drops the lock of a process that ends, however it ends; so a directory that nobody holds is left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from unionfs.linux.syncfs import syncfs
from unionfs.mounter.processes import start_time

NAME = "staging"


@contextlib.contextmanager
def staged(root: Path) -> Iterator[Path]:
    """An empty directory in the staging of the store at ``root``, held by this process; what is left of it at the end is removed.

    Raises:
        OSError: it cannot be made.
    """
    staging = root / NAME
    staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid = os.getpid()
    directory = Path(tempfile.mkdtemp(prefix=f"{pid}-{start_time(pid)}-", dir=staging))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(fd)
        if directory.exists():
            shutil.rmtree(directory)


def sync(directory: Path) -> None:
    """Write all that was made in ``directory`` to the disk.

    Raises:
        OSError: EIO, ENOSPC: it could not be.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def sync_names(directory: Path) -> None:
    """Write the names in ``directory`` to the disk, after a rename into or out of it.

    Raises:
        OSError: as fsync(2).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
