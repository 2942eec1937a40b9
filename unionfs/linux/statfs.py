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

_REMOTE = frozenset(
    (
        FUSE_SUPER_MAGIC,  # also virtiofs
        NFS_SUPER_MAGIC,
        0x517B,  # SMB_SUPER_MAGIC
        0xFE534D42,  # SMB2_SUPER_MAGIC
        0xFF534D42,  # CIFS_SUPER_MAGIC (fs/smb/client/cifsglob.h, as the following in the filesystems' own sources)
        0x01021997,  # V9FS_MAGIC
        0x00C36400,  # CEPH_SUPER_MAGIC
        0x5346414F,  # AFS_SUPER_MAGIC
        0x6B414653,  # AFS_FS_MAGIC
        0x73757245,  # CODA_SUPER_MAGIC
        0x0187,  # AUTOFS_SUPER_MAGIC
        0x786F4256,  # VBOXSF_SUPER_MAGIC
        0x20030528,  # ORANGEFS_SUPER_MAGIC
        0x7461636F,  # OCFS2_SUPER_MAGIC
        0x01161970,  # GFS2_MAGIC
        0x0BD00BD0,  # LUSTRE_SUPER_MAGIC
        0x19830326,  # BeeGFS
        0x47504653,  # GPFS_SUPER_MAGIC
        0x61636673,  # ACFS_SUPER_MAGIC
    )
)
"""Of filesystems that are not the kernel's alone to answer for."""


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


def is_remote(fd: int) -> bool:
    """Whether the filesystem that ``fd`` is on may wait for somebody else: a server, or a process.

    What that is stacked on is not looked at: the kernel tells of no filesystem whether its disk is in the network, or its layers.

    Raises:
        OSError: as `filesystem_type`.
    """
    return filesystem_type(fd) in _REMOTE
