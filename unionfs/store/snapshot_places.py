"""The directories of snapshots: ``snapshots/NUMBER``, made in ``staging/`` and removed by way of it.

A directory that no row of an active snapshot or a view names is left over from a process that was killed.  The lock on a
directory (flock(2), on itself) keeps mount, commit and remove of one snapshot apart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from unionfs.store.errors import CorruptError
from unionfs.store.staging import discard, flocked, staged, sync_names

SNAPSHOTS = "snapshots"

_MODE = 0o711
"""Of each snapshot: its contents have modes of their own."""
_PRIVATE = 0o700
"""Of what they are in.  Somebody in a container may make set-id programs, which nobody outside shall reach by a path; containers
themselves are in a mount, and pass through nothing."""


class Places:
    """The directories of one store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._snapshots = root / SNAPSHOTS

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
                lock.enter_context(flocked(self.path(number)))
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
        with staged(self._root) as directory:
            directory.chmod(_MODE)
            yield directory

    def install(self, directory: Path, number: int) -> None:
        """Move a complete directory from staging to its place, on the disk; within the transaction that makes it known.

        Raises:
            OSError: as rename(2), fsync(2).
        """
        self._snapshots.mkdir(mode=_PRIVATE, exist_ok=True)
        self._snapshots.chmod(_PRIVATE)  # one of an earlier unionfs is open
        place = self.path(number)
        # The number of a transaction that was not committed is given out again, and its directory may be there already.
        if place.exists():
            discard(self._root, place)
        directory.rename(place)
        sync_names(self._snapshots)

    def discard(self, number: int, remove: Callable[[Path], None]) -> None:
        """Remove the directory of a snapshot that no row names any more; ``remove`` does it.  It may be gone already.

        Raises:
            OSError: it cannot be removed; what is left is collected later.
        """
        discard(self._root, self.path(number), remove)

    def numbers(self) -> set[int]:
        """Of all the directories that are there."""
        with contextlib.suppress(FileNotFoundError):
            return {int(name) for name in os.listdir(self._snapshots) if name.isdecimal()}
        return set()

    def set_aside(self, number: int, aside: Path) -> Path | None:
        """Move a left-over directory into ``aside``, within a transaction that shows it to be one; its path there.  None: it is
        gone.

        Raises:
            OSError: as rename(2).
        """
        with contextlib.suppress(FileNotFoundError):
            return self.path(number).rename(aside / str(number))
        return None
