"""The directories of volumes: ``volumes/NAME``, made in ``staging/`` and removed by way of it.

A directory that no row names is left over from a process that was killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from unionfs.linux.mountinfo import read_mountinfo
from unionfs.store.errors import CorruptError
from unionfs.store.staging import flocked, staged, sync_names
from unionfs.volumes.drivers import DATA

VOLUMES = "volumes"

_MODE = 0o701
"""Containers under other users pass through to their data, but nobody lists the volumes of others (docker's mode)."""


class Places:
    """The directories of one store."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._volumes = root / VOLUMES

    def path(self, name: str) -> Path:
        """The directory of a volume."""
        return self._volumes / name

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[Path]:
        """The directory of a volume, which no other process mounts, fills or removes meanwhile; waits for those that do.

        Raises:
            CorruptError: it is gone.
        """
        path = self.path(name)
        with contextlib.ExitStack() as lock:
            try:
                lock.enter_context(flocked(path))
            except FileNotFoundError as error:
                raise CorruptError(
                    name, f"the directory of the volume is gone ({path})", "unionfs volume rm removes it"
                ) from error
            yield path

    @contextlib.contextmanager
    def made(self) -> Iterator[Path]:
        """A directory with an empty `DATA`, in staging until `install`; without that it is removed at the end."""
        with staged(self._root) as directory:
            directory.chmod(_MODE)
            data = directory / DATA
            data.mkdir()
            data.chmod(0o755)  # whatever the umask is
            yield directory

    def install(self, directory: Path, name: str) -> None:
        """Move a complete directory to its place, within the transaction that makes it known; what a killed process has left
        there is removed.

        Raises:
            OSError: as rename(2), fsync(2).
        """
        self._volumes.mkdir(mode=_MODE, exist_ok=True)
        with self.aside() as aside:
            self.set_aside(name, aside)
        directory.rename(self.path(name))
        sync_names(self._volumes)

    def aside(self) -> contextlib.AbstractContextManager[Path]:
        """A directory in staging to move things to that shall be removed at the end."""
        return staged(self._root)

    def set_aside(self, name: str, aside: Path) -> bool:
        """Move the directory of a volume out of sight; False: there is none.

        Raises:
            OSError: as rename(2).
        """
        try:
            self.path(name).rename(aside / name)
        except FileNotFoundError:
            return False
        return True

    def mounted_in(self, name: str) -> list[Path]:
        """Where something is mounted in the directory of a volume."""
        place = self.path(name)
        return [each.mount_point for each in read_mountinfo() if each.mount_point.is_relative_to(place)]

    def names(self) -> set[str]:
        """Of all the directories that are there."""
        try:
            return set(os.listdir(self._volumes))
        except FileNotFoundError:
            return set()


def empty(directory: Path) -> None:
    """Remove all that is in a directory.

    Raises:
        OSError: something cannot be removed.
    """
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
