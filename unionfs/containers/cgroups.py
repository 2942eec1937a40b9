"""The cgroups of a container that its runtime has forgotten.

A runtime that is killed after it has made them and before it has written down that it did leaves them; it knows of no such
container then, and deletes nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")


def cgroups_path(container_id: str) -> str:
    """What a container's cgroups are called, from the root of each hierarchy.

    Not below a common one: that would stay when the last container has gone.
    """
    return f"/unionfs-{container_id}"


def remove_cgroups(container_id: str) -> None:
    """Remove the empty ones, in all hierarchies; one that is not empty stays.  Nothing happens where there are none."""
    name = cgroups_path(container_id).lstrip("/")
    for cgroup in (_MOUNT / name, *_MOUNT.glob(f"*/{name}")):
        # EBUSY: processes; EACCES, EPERM, EROFS: the hierarchies are another user's, and so would be what is in them.
        with contextlib.suppress(OSError):
            cgroup.rmdir()
