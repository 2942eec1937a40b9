"""Where directories are, well enough to tell whether one lies inside another in spite of symbolic links and bind mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from unionfs.linux.mountinfo import Mount, mount_id_of

Key = tuple[int, int] | tuple[int, PurePosixPath]
"""A directory by (device, inode number), and by (device, path inside the filesystem)."""


class Location(NamedTuple):
    """A directory.  ``own`` are the keys that mean the directory itself, ``above`` those of all directories that it lies in;
    ``mount_id`` is the mount it is on (first field of mountinfo)."""

    path: Path
    own: tuple[Key, ...]
    above: frozenset[Key]
    mount_id: int


class Locator:
    """Finds `Location`s.  ``mounts`` is a reading of mountinfo.

    Inode numbers show what lies inside what along a path, over mount points too.  They do not show it where a parent directory is
    bind-mounted elsewhere; the path inside the filesystem (``root`` of mountinfo) does.
    """

    def __init__(self, mounts: list[Mount]) -> None:
        self._mounts = {mount.id: mount for mount in mounts}
        self._identities: dict[Path, tuple[int, int]] = {}

    def locate(self, path: Path) -> Location:
        """The location of a directory, whose ``path`` must be absolute and free of symbolic links.

        Raises:
            OSError: as open(2) of the directory with O_PATH, and stat(2) of those above it.
        """
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount_id = mount_id_of(fd)
            status = os.fstat(fd)
        finally:
            os.close(fd)
        inside = list(self._inside_filesystem(path, mount_id))
        above: set[Key] = {self._identity(parent) for parent in path.parents}
        above.update(inside[1:])
        own: tuple[Key, ...] = ((status.st_dev, status.st_ino), *inside[:1])
        return Location(path, own, frozenset(above.difference(own)), mount_id)

    def _identity(self, path: Path) -> tuple[int, int]:
        if path not in self._identities:
            status = os.stat(path)
            self._identities[path] = status.st_dev, status.st_ino
        return self._identities[path]

    def _inside_filesystem(self, path: Path, mount_id: int) -> Iterator[tuple[int, PurePosixPath]]:
        # A mount that is not listed (made since, or outside the process's root directory) has no path to tell.
        mount = self._mounts.get(mount_id)
        if mount is not None and path.is_relative_to(mount.mount_point):
            place = PurePosixPath(mount.root, path.relative_to(mount.mount_point))
            yield from ((mount.device, step) for step in (place, *place.parents))
