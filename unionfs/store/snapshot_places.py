"""The directories of snapshots: ``snapshots/NUMBER``, made in ``staging/`` and removed by way of it.

A directory that no row of an active snapshot or a view names is left over from a process that was killed.  The lock on a
directory (flock(2), on itself) keeps mount, commit and remove of one snapshot apart.
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
from unionfs.store.errors import CorruptError

SNAPSHOTS, STAGING = "snapshots", "staging"

_MODE = 0o711
"""Containers under other users pass through to their own root, but see no other's name."""

_locks: set[int] = set()


def _close_locks() -> None:
    """A daemon that is forked while a lock is held would keep it for as long as it lives."""
    for fd in _locks:
        os.close(fd)
    _locks.clear()


os.register_at_fork(after_in_child=_close_locks)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _flocked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _locks.add(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        _locks.discard(fd)
        os.close(fd)


class Places:
    """The directories of one store."""

    def __init__(self, root: Path) -> None:
        self._snapshots = root / SNAPSHOTS
        self._staging = root / STAGING

    def path(self, number: int) -> Path:
        """Where the snapshot of that number has what is its own."""
        return self._snapshots / str(number)

    @contextlib.contextmanager
    def locked(self, number: int) -> Iterator[None]:
        """Keep other processes from mounting, committing and removing the snapshot meanwhile; waits for those that do.

        Raises:
            CorruptError: its directory is gone.
        """
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(_flocked(self.path(number)))
            except FileNotFoundError as error:
                raise CorruptError(
                    str(self.path(number)), "the directory of a snapshot is gone", "remove the snapshot"
                ) from error
            yield

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """An empty directory in staging that is held by this process; what is still there at the end is removed.

        Raises:
            OSError: it cannot be made.
        """
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid = os.getpid()
        directory = Path(tempfile.mkdtemp(prefix=f"{pid}-{start_time(pid)}-", dir=self._staging))
        try:
            with _flocked(directory):
                directory.chmod(_MODE)
                yield directory
        finally:
            if directory.exists():
                shutil.rmtree(directory)

    def install(self, staged: Path, number: int) -> None:
        """Move a complete directory from staging to its place, on the disk; within the transaction that makes it known.

        Raises:
            OSError: as rename(2), fsync(2).
        """
        self._snapshots.mkdir(mode=_MODE, exist_ok=True)
        place = self.path(number)
        # The number of a transaction that was not committed is given out again, and its directory may be there already.
        with contextlib.suppress(FileNotFoundError):
            self._set_aside(place)
        staged.rename(place)
        with _opened(self._snapshots) as fd:
            os.fsync(fd)

    def sync(self, staged: Path) -> None:
        """Write what is in a staged directory to the disk.

        Raises:
            OSError: as syncfs(2).
        """
        with _opened(staged) as fd:
            syncfs(fd)

    def discard(self, number: int, remove: Callable[[Path], None]) -> None:
        """Remove the directory of a snapshot that no row names any more; ``remove`` does it.  It may be gone already.

        Raises:
            OSError: it cannot be removed; what is left is collected later.
        """
        with contextlib.suppress(FileNotFoundError):
            remove(self._set_aside(self.path(number)))

    def _set_aside(self, place: Path) -> Path:
        """Out of sight at once; its new path, in staging, where it is removed sooner or later."""
        self._staging.mkdir(mode=0o700, exist_ok=True)
        pid = os.getpid()
        # rename(2) onto an empty directory replaces it: no name that somebody else may have taken.
        target = Path(tempfile.mkdtemp(prefix=f"{pid}-{start_time(pid)}-", dir=self._staging))
        try:
            place.rename(target)
        except OSError:
            target.rmdir()
            raise
        return target

    def numbers(self) -> set[int]:
        """Of all the directories that are there."""
        with contextlib.suppress(FileNotFoundError):
            return {int(name) for name in os.listdir(self._snapshots) if name.isdecimal()}
        return set()

    def set_aside(self, number: int) -> Path | None:
        """Move a left-over directory to staging, within a transaction that shows it to be one; None: it is gone.

        Raises:
            OSError: as rename(2).
        """
        with contextlib.suppress(FileNotFoundError):
            return self._set_aside(self.path(number))
        return None
