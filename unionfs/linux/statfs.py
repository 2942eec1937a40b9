"""Which kind of filesystem something is on."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_byte, c_int, c_long

from unionfs.linux.libc import last_error, libc

# include/uapi/linux/magic.h
EXT_SUPER_MAGIC = 0xEF53  # ext2, ext3 and ext4 share it
TMPFS_MAGIC = 0x01021994
OVERLAYFS_SUPER_MAGIC = 0x794C7630
FUSE_SUPER_MAGIC = 0x65735546
BTRFS_SUPER_MAGIC = 0x9123683E
XFS_SUPER_MAGIC = 0x58465342
NFS_SUPER_MAGIC = 0x6969
PROC_SUPER_MAGIC = 0x9FA0


class _StatFs(ctypes.Structure):
    """``struct statfs``: its first field, and room for the rest (at most 120 bytes on any architecture)."""

    _fields_ = (("f_type", c_long), ("rest", c_byte * 248))


_fstatfs = libc.fstatfs
_fstatfs.argtypes = (c_int, POINTER(_StatFs))


def filesystem_type(fd: int) -> int:
    """The magic number (``*_MAGIC``) of the filesystem that ``fd`` is on; ``fd`` may be an ``O_PATH`` one.

    Raises:
        OSError: EBADF, EIO.
    """
    buffer = _StatFs()
    if _fstatfs(fd, byref(buffer)):
        raise last_error()
    return int(buffer.f_type) & 0xFFFFFFFF
