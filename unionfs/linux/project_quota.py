"""Project quotas: limits on what all files with one project ID take, where the filesystem has them (XFS, ext4, f2fs).

Spoken with the commands of XFS, which the kernel translates for the others (fs/quota/quota.c), by way of quotactl_fd(2) (Linux
5.14): quotactl(2) would need the path of a block device.

Source: include/uapi/linux/{quota,dqblk_xfs,fs}.h; quotactl(2), ioctl_xfs_fsgetxattr(2).
"""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import NamedTuple

from unionfs.linux.inode_flags import get_fsxattr, set_fsxattr
from unionfs.linux.libc import last_error, libc

FS_XFLAG_PROJINHERIT = 0x200
FS_PROJINHERIT_FL = 0x20000000
"""The same flag in the other form (`unionfs.linux.inode_flags`)."""

_SYS_QUOTACTL_FD = 443  # on all architectures (asm-generic/unistd.h)
_PRJQUOTA = 2
_SUBCMDSHIFT = 8
_XQM = ord("X") << 8
_Q_XGETQUOTA, _Q_XSETQLIM, _Q_XGETQSTATV = _XQM + 3, _XQM + 4, _XQM + 8

_BASIC_BLOCK = 512
_FS_DQ_BHARD = 1 << 3
_FS_PROJ_QUOTA = 1 << 1
_FS_DQUOT_VERSION = 1
_FS_DISK_QUOTA = struct.Struct("=bbHI6QiiHHbbbbQQQiHh8x")

_FS_QSTATV_VERSION1 = 1
_FS_QUOTA_STATV = struct.Struct("=bBH156x")
_ACCOUNTED_AND_ENFORCED = 1 << 4 | 1 << 5  # FS_QUOTA_PDQ_ACCT, FS_QUOTA_PDQ_ENFD

# No such system call; no quotas in this filesystem, or none of projects, or not on; a filter of system calls in a container.
_HAS_NONE = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.ESRCH, errno.EINVAL, errno.EPERM)


class Project(NamedTuple):
    """The project of a file or directory; ``inherits``: what is made in the directory will have it too."""

    id: int
    inherits: bool


class Usage(NamedTuple):
    """What a project takes: bytes, of files with the blocks of their extended attributes and of directories, and inodes;
    ``limit`` in bytes (0: none)."""

    used: int
    inodes: int
    limit: int


def get_project(fd: int) -> Project:
    """The project of an open file or directory; 0 is none.  Errors as `unionfs.linux.inode_flags.get_flags`."""
    flags, _, _, project, _ = get_fsxattr(fd)
    return Project(project, bool(flags & FS_XFLAG_PROJINHERIT))


def set_project(fd: int, project: Project) -> None:
    """Give an open directory a project; what is in it keeps that which it has.

    Raises:
        OSError: as `unionfs.linux.inode_flags.set_fsxattr`; EINVAL also outside the initial user namespace; EDQUOT or ENOSPC: the
            project has no room.
    """
    flags, extent_hint, extents, _, cow_hint = get_fsxattr(fd)
    flags = flags & ~FS_XFLAG_PROJINHERIT | (FS_XFLAG_PROJINHERIT if project.inherits else 0)
    set_fsxattr(fd, (flags, extent_hint, extents, project.id, cow_hint))


def has_project_quota(fd: int) -> bool:
    """Whether the filesystem of an open file counts what projects take, and keeps them to their limits."""
    buffer = ctypes.create_string_buffer(_FS_QUOTA_STATV.pack(_FS_QSTATV_VERSION1, 0, 0), _FS_QUOTA_STATV.size)
    try:
        _quotactl(fd, _Q_XGETQSTATV, 0, buffer)
    except OSError as error:
        if error.errno in _HAS_NONE:
            return False
        raise
    _, _, flags = _FS_QUOTA_STATV.unpack(buffer.raw)
    return bool(flags & _ACCOUNTED_AND_ENFORCED == _ACCOUNTED_AND_ENFORCED)


def get_usage(fd: int, project: int) -> Usage:
    """What a project takes on the filesystem of an open file.

    Raises:
        OSError: EPERM (no CAP_SYS_ADMIN in the initial user namespace), ESRCH, ENOSYS (no project quotas).
    """
    buffer = ctypes.create_string_buffer(_FS_DISK_QUOTA.size)
    try:
        _quotactl(fd, _Q_XGETQUOTA, project, buffer)
    except OSError as error:
        if error.errno == errno.ENOENT:  # XFS, of a project that never had a file
            return Usage(0, 0, 0)
        raise
    hard, _, _, _, blocks, inodes = _FS_DISK_QUOTA.unpack(buffer.raw)[4:10]
    return Usage(blocks * _BASIC_BLOCK, inodes, hard * _BASIC_BLOCK)


def set_limit(fd: int, project: int, limit: int) -> None:
    """Let a project take at most ``limit`` bytes, rounded up to what the filesystem counts in; 0: any number.

    What it takes already may be more.  Beyond it XFS answers ENOSPC, ext4 EDQUOT.  Errors as `get_usage`, and EROFS.
    """
    blocks = -(-limit // _BASIC_BLOCK)
    head = (_FS_DQUOT_VERSION, _FS_PROJ_QUOTA, _FS_DQ_BHARD, project)
    packed = _FS_DISK_QUOTA.pack(*head, blocks, *([0] * 19))
    _quotactl(fd, _Q_XSETQLIM, project, ctypes.create_string_buffer(packed, _FS_DISK_QUOTA.size))


def _quotactl(fd: int, command: int, project: int, buffer: ctypes.Array[ctypes.c_char]) -> None:
    number = ctypes.c_uint(command << _SUBCMDSHIFT | _PRJQUOTA)
    if libc.syscall(ctypes.c_long(_SYS_QUOTACTL_FD), ctypes.c_int(fd), number, ctypes.c_uint(project), buffer):
        raise last_error()
