"""``staging/``: directories in which something is made, or waits to be removed, each held by a lock of its maker.

The kernel drops the lock of a process that ends, however it ends; so a directory that nobody holds is left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from unionfs.linux.syncfs import syncfs
from unionfs.mounter.processes import start_time
from unionfs.store.descriptors import opened_alone

NAME = "staging"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_LEFT = "left"


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
    try:
        with flocked(directory):
            yield directory
    finally:
        if directory.exists():
            shutil.rmtree(directory)


@contextlib.contextmanager
def flocked(directory: Path) -> Iterator[None]:
    """Alone with a directory, among those who ask so; waits for the others.

    Raises:
        FileNotFoundError: there is none.
        OSError: as open(2).
    """
    with opened_alone(directory, _DIRECTORY) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def discard(root: Path, directory: Path, remove: Callable[[Path], None] = shutil.rmtree) -> bool:
    """Take a directory of the store away: out of sight at once and as a whole, then with all that is in it, by ``remove``.

    False: it is not there.

    Raises:
        OSError: it cannot be removed; what is left of it is collected later.
    """
    with staged(root) as aside:
        try:
            directory.rename(aside / _LEFT)
        except FileNotFoundError:
            return False
        remove(aside / _LEFT)
    return True


def sync(directory: Path) -> None:
    """Write all that was made in ``directory`` to the disk.

    Raises:
        OSError: EIO, ENOSPC: it could not be.
    """
    with opened_alone(directory, _DIRECTORY) as fd:
        syncfs(fd)


def sync_names(directory: Path) -> None:
    """Write the names in ``directory`` to the disk, after a rename into or out of it.

    Raises:
        OSError: as fsync(2).
    """
    with opened_alone(directory, _DIRECTORY) as fd:
        os.fsync(fd)
