"""Subvolumes of Btrfs: directories that are copied as a whole in no time, sharing everything that neither copy changes.

Source: include/uapi/linux/btrfs.h (``struct btrfs_ioctl_vol_args``); btrfs-ioctl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

_SNAP_CREATE = 0x50009401  # _IOW(0x94, 1, struct btrfs_ioctl_vol_args)
_SUBVOL_CREATE = 0x5000940E  # _IOW(0x94, 14, …)
_SNAP_DESTROY = 0x5000940F  # _IOW(0x94, 15, …)
_ARGUMENTS = struct.Struct("=q4088s")  # descriptor of the source, name
_LONGEST_NAME = 255


def create_subvolume(path: Path) -> None:
    """Make an empty subvolume at ``path``.

    Raises:
        OSError: EEXIST, ENOENT, ENOTTY (no Btrfs), ENOSPC, EACCES.
    """
    _change(_SUBVOL_CREATE, path, 0)


def snapshot_subvolume(source: Path, path: Path) -> None:
    """Make a writable copy of the subvolume ``source`` at ``path``, on the same filesystem.

    Raises:
        OSError: as `create_subvolume`; EINVAL (``source`` is no subvolume), EXDEV, EPERM (somebody else's).
    """
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _change(_SNAP_CREATE, path, fd)
    finally:
        os.close(fd)


def destroy_subvolume(path: Path) -> None:
    """Remove the subvolume at ``path`` with all it holds.

    Raises:
        OSError: EINVAL (no subvolume), ENOENT, EPERM (no CAP_SYS_ADMIN, and the filesystem not mounted with
            user_subvol_rm_allowed), EBUSY (mounted), ENOTEMPTY (other subvolumes in it).
    """
    _change(_SNAP_DESTROY, path, 0)


def _change(request: int, path: Path, source: int) -> None:
    name = os.fsencode(path.name)
    if len(name) > _LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, request, bytearray(_ARGUMENTS.pack(source, name)))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)
