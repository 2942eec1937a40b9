"""Whether somebody has a directory mounted: a container that uses a volume has it so, in a mount namespace of its own.

mountinfo tells (proc_pid_mountinfo(5)), so no record of ours or of an engine can disagree, and no filesystem that may hang is
asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.mountinfo import Mount, read_mountinfo
from unionfs.linux.mounts_everywhere import mount_namespaces


class _Place(NamedTuple):
    """A directory, by its filesystem and its path from that filesystem's root: the same in every mount namespace."""

    device: int
    path: Path


def is_mounted_elsewhere(data: Path) -> bool:
    """Whether ``data``, or something in it, is mounted anywhere but at ``data`` itself, in the mount namespace of any process
    that may be looked at.

    Where ``data`` is a mount, a new mount namespace begins with a copy of that, and so does a recursive bind mount of a directory
    above (``-v /:/host``): those are at the same place, over the same directory, and no use of it.
    """
    here = read_mountinfo()
    covering = [mount for mount in here if mount.mount_point == data]
    shown = _place_of(data, here)
    own = _beneath(covering[-1], _by_id(here)) if covering else None
    for namespace in mount_namespaces():
        by_id = _by_id(namespace.mounts)
        for mount in namespace.mounts:
            if _shows(mount, shown) and (own is None or _beneath(mount, by_id) != own):
                return True
    return False


def _shows(mount: Mount, place: _Place) -> bool:
    return mount.device == place.device and Path(mount.root).is_relative_to(place.path)


def _place_of(directory: Path, mounts: list[Mount]) -> _Place:
    above = [mount for mount in mounts if directory.is_relative_to(mount.mount_point)]
    # Of several mounts on one directory the last counts.
    return _within(max(reversed(above), key=lambda mount: len(mount.mount_point.parts)), directory)


def _beneath(mount: Mount, by_id: Mapping[int, Mount]) -> _Place | None:
    """The directory that a mount covers; None: its parent is out of sight, beyond the root of the process."""
    parent = by_id.get(mount.parent)
    return _within(parent, mount.mount_point) if parent and mount.mount_point.is_relative_to(parent.mount_point) else None


def _within(mount: Mount, path: Path) -> _Place:
    return _Place(mount.device, Path(mount.root) / path.relative_to(mount.mount_point))


def _by_id(mounts: list[Mount]) -> dict[int, Mount]:
    return {mount.id: mount for mount in mounts}
