"""What ``unionfs diff`` is given: a container, the mount point of a union, or an upper directory."""

from __future__ import annotations

import os
from pathlib import Path

from unionfs.containers.changes import Change, changes_by_origin, changes_of
from unionfs.containers.lifecycle import opened
from unionfs.containers.pausing import quiet
from unionfs.linux.mountinfo import read_mountinfo
from unionfs.mounter.errors import NotMountedError
from unionfs.mounter.lookup import known_mount, resolve_mountpoint
from unionfs.mounter.registry import registered_mounts
from unionfs.mounter.request import may_write_trusted_xattrs
from unionfs.store.errors import NotFoundError, StoreError
from unionfs.store.snapshot_rows import chain


def diff(root: Path, target: str) -> list[Change]:
    """The changes of ``target``: a path if it has a slash or is a directory here, else a container.

    Raises:
        NotFoundError: there is neither.
        StoreError: it has no writable layer of its own.
        OSError: a layer cannot be read.
    """
    is_user = not may_write_trusted_xattrs()
    if "/" not in target:
        try:
            return _of_container(root, target, is_user)
        except NotFoundError:
            if not Path(target).is_dir():
                raise
    return _of_path(Path(target), is_user)


def _of_container(root: Path, name: str, is_user: bool) -> list[Change]:
    with opened(root) as (store, containers):
        container = containers.find(name)
        upper = store.snapshots.changes_dir(container.snapshot)
        if upper is not None:
            parent = store.snapshots.stat(container.snapshot).parent
            lowers = [] if parent is None else chain(store.database, parent)
            return changes_of(upper, [store.layers.path(diff_id) for diff_id in lowers], user=is_user)
        # Whole trees are compared by path, which nobody may lead elsewhere meanwhile.
        with quiet(root, container):
            return [Change(*change) for change in store.snapshots.changes(container.snapshot) or ()]


def _of_path(path: Path, is_user: bool) -> list[Change]:
    mountpoint = resolve_mountpoint(path)
    if any(mount.mount_point == mountpoint for mount in read_mountinfo()):
        record = known_mount(path).record
        if record.upper is None:
            raise StoreError(str(path), "the union has no writable layer", "name one that has")
        return changes_of(Path(record.upper), [Path(lower) for lower in record.lowers], user=is_user)
    upper = Path(os.path.realpath(path))
    if not upper.is_dir():
        raise NotMountedError(
            str(path), "neither a mounted union nor an upper directory", "unionfs ls and unionfs ps -a list what is"
        )
    lowers = _lowers_over(upper)
    return changes_by_origin(upper, user=is_user) if lowers is None else changes_of(upper, lowers, user=is_user)


def _lowers_over(upper: Path) -> list[Path] | None:
    """The lowers of the union of ours that has ``upper`` as its upper now; None if none has."""
    for mount in registered_mounts():
        if mount.record.upper == str(upper):
            return [Path(lower) for lower in mount.record.lowers]
    return None
