"""Inode flags, as chattr(1) and xfs_io(8) set them: ioctl_iflags(2) and ioctl_xfs_fsgetxattr(2).

The numbers of the ioctls are those of 64-bit machines: they encode the size of a ``long``, though only 32 bits are moved.
"""

from __future__ import annotations

import fcntl
import struct

# include/uapi/linux/fs.h
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820

FS_SYNC_FL = 0x08
FS_IMMUTABLE_FL = 0x10
FS_APPEND_FL = 0x20
FS_NODUMP_FL = 0x40
FS_NOATIME_FL = 0x80

FS_XFLAG_IMMUTABLE = 0x08
FS_XFLAG_APPEND = 0x10
FS_XFLAG_NODUMP = 0x80

FLAGS = struct.Struct("=I")
FSXATTR = struct.Struct("=IIIII8x")

FsXattr = tuple[int, int, int, int, int]
"""``struct fsxattr``: flags (``FS_XFLAG_*``), extent size hint in bytes, number of extents (read only), project id, copy-on-write
extent size hint in bytes."""


def get_flags(fd: int) -> int:
    """The ``FS_*_FL`` bits of an open file or directory.

    Raises:
        OSError: ENOTTY or EOPNOTSUPP (the filesystem has no such flags), EBADF (opened with O_PATH).
    """
    # A mutable buffer: fcntl.ioctl writes what the kernel returned back only into one.
    buffer = bytearray(8)
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, buffer)
    flags: int = FLAGS.unpack_from(buffer)[0]
    return flags


def set_flags(fd: int, flags: int) -> None:
    """Set all of the ``FS_*_FL`` bits of an open file or directory; it need not be open for writing.

    Raises:
        OSError: as `get_flags`; EPERM (neither owner nor CAP_FOWNER; FS_IMMUTABLE_FL or FS_APPEND_FL without
            CAP_LINUX_IMMUTABLE), EROFS.
    """
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, bytearray(FLAGS.pack(flags) + bytes(4)))


def get_fsxattr(fd: int) -> FsXattr:
    """FS_IOC_FSGETXATTR; errors as `get_flags`."""
    buffer = bytearray(FSXATTR.size)
    fcntl.ioctl(fd, FS_IOC_FSGETXATTR, buffer)
    xflags, extsize, nextents, projid, cowextsize = FSXATTR.unpack(buffer)
    return xflags, extsize, nextents, projid, cowextsize


def set_fsxattr(fd: int, fsxattr: FsXattr) -> None:
    """FS_IOC_FSSETXATTR; errors as `set_flags`, and EINVAL (hints or project id that cannot be)."""
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, bytearray(FSXATTR.pack(*fsxattr)))
