"""Unmounting a union and waiting until nothing of it is left."""

from __future__ import annotations

import shlex
from pathlib import Path

from unionfs.fuse.mounting import unmount
from unionfs.linux.mounts_everywhere import mount_namespaces
from unionfs.mounter.errors import DaemonError
from unionfs.mounter.lookup import mounted_union, registered_mount
from unionfs.mounter.processes import wait_for_end
from unionfs.mounter.registry import RegisteredMount, registered_mounts

END_TIMEOUT = 30.0
"""Seconds that a daemon may take to end: it may still be writing, and fsync, what is in its worker threads."""
_LAZY_TIMEOUT = 1.0  # after a lazy unmount it ends at once if nobody uses the mount, else whenever the last one leaves


def unmount_union(given: Path, lazy: bool = False) -> RegisteredMount | None:
    """Unmount the union on ``given``; on return its daemon has ended, and its upper and work are free.

    With ``lazy`` only the mount point is free for certain; the daemon's entry is returned if it lives on.

    Raises:
        NotMountedError: no union is mounted there.
        MountError: in use, or no right to.
        DaemonError: the daemon did not end.
    """
    mountpoint, mount = mounted_union(given)
    found = registered_mount(mount)
    unmount(mountpoint, lazy)
    if found is None:
        return None  # another user's: who may unmount it may still not see its registry
    record = found.record
    if wait_for_end(record.pid, record.start_time, _LAZY_TIMEOUT if lazy else END_TIMEOUT):
        registered_mounts()  # takes away what a killed daemon left
        return None
    if lazy:
        return found
    holder = _holder(mount.device)
    raise DaemonError(
        f"process {record.pid}",
        f"the daemon of {mountpoint} has not ended {END_TIMEOUT:g} s after the unmount",
        f"see its log {record.log}"
        if holder is None
        else f"process {holder[0]} has a mount namespace with a copy of the mount on {holder[1]}: "
        f"end it, or nsenter --target {holder[0]} --mount umount {shlex.quote(str(holder[1]))}",
    )


def _holder(device: int) -> tuple[int, Path] | None:
    """A process in whose mount namespace a filesystem is still mounted, and where; None: there is none.  A new namespace begins
    with a copy of all mounts (mount_namespaces(7))."""
    for namespace in mount_namespaces():
        for mount in namespace.mounts:
            if mount.device == device:
                return namespace.process, mount.mount_point
    return None
