"""The image's content, copied into an empty volume: once, by the first container that has something where the volume goes.

A copy that was broken off leaves the volume marked as being filled; whoever mounts it next empties it first
(`VolumeManager.mount`), so nobody ever sees half of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from unionfs.store.drivers.tree_copy import TreeCopier, copy_times
from unionfs.store.errors import StoreError
from unionfs.store.staging import sync
from unionfs.volumes.manager import VolumeManager
from unionfs.volumes.places import empty
from unionfs.volumes.volume import Filling


def fill(volumes: VolumeManager, name: str, data: Path, source: int) -> bool:
    """Copy what is in the directory open at ``source``, and its owner, mode and attributes, into ``data``, where the volume is
    mounted for the caller; whether it was done.  Not if anything is there, and never a second time.

    Raises:
        StoreError: the copy failed; the volume is empty again.
    """
    with volumes.filling(name) as filling:
        if filling is Filling.DONE:
            return False
        if os.listdir(data):
            volumes.set_filling(name, Filling.DONE)
            return False
        volumes.set_filling(name, Filling.COPYING)
        try:
            _copy_tree(source, data)
        except OSError as error:
            empty(data)
            volumes.set_filling(name, Filling.NEW)
            raise StoreError(
                name, f"the image's content could not be copied into the volume: {error}", "make room, or mount it with nocopy"
            ) from error
        volumes.set_filling(name, Filling.DONE)
    return True


def _copy_tree(source: int, data: Path) -> None:
    target = os.fsencode(data)
    copier = TreeCopier(lambda name: name)
    root = b"/proc/self/fd/%d/." % source
    directories: list[tuple[os.stat_result, bytes]] = []
    for relative, status in _walk(root):
        from_path, to_path = os.path.join(root, relative), os.path.join(target, relative) if relative else target
        if relative:
            copier.copy(from_path, status, to_path)
        else:
            copier.copy_metadata(from_path, status, to_path)
        if stat.S_ISDIR(status.st_mode):
            directories.append((status, to_path))
    for status, to_path in reversed(directories):
        copy_times(status, to_path)
    sync(data)


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Relative paths, a directory before what is in it, the root itself as an empty one."""
    pending = [b""]
    while pending:
        relative = pending.pop()
        path = os.path.join(root, relative)
        status = os.lstat(path)
        yield relative, status
        if stat.S_ISDIR(status.st_mode):
            pending += (os.path.join(relative, name) for name in os.listdir(path))
