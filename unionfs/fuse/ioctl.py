"""The ioctls that reach a filesystem: flags of files and directories.

The kernel turns ioctl(2) with one of these into a request of its own (fs/fuse/ioctl.c, fuse_fileattr_get, fuse_fileattr_set),
after it has checked who asks (fs/file_attr.c, vfs_fileattr_set).  Others it passes on as they are; they get ENOTTY.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from unionfs.filesystem import ExtendedFlags, Filesystem
from unionfs.fuse.wire import IOCTL_IN, IOCTL_OUT, Body, Layout, MalformedRequestError
from unionfs.linux.inode_flags import FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS

_FLAGS = Layout("=I")
_FSXATTR = Layout("=IIIII8x")

_LARGEST_REPLY = 1 << 14
"""Bytes: in the number of a command its size has 14 bits (include/uapi/asm-generic/ioctl.h)."""

Ioctl = Callable[[Filesystem, int, Body], bytes]
"""Serves one command on a node; the bytes that came with it, and those to reply."""


def _get_flags(filesystem: Filesystem, node: int, _data: Body) -> bytes:
    return _FLAGS.pack(filesystem.get_flags(node))


def _set_flags(filesystem: Filesystem, node: int, data: Body) -> bytes:
    filesystem.set_flags(node, _FLAGS.decode(data)[0])
    return b""


def _get_extended_flags(filesystem: Filesystem, node: int, _data: Body) -> bytes:
    return _FSXATTR.pack(*filesystem.get_extended_flags(node))


def _set_extended_flags(filesystem: Filesystem, node: int, data: Body) -> bytes:
    filesystem.set_extended_flags(node, ExtendedFlags(*_FSXATTR.decode(data)))
    return b""


_IOCTLS: dict[int, Ioctl] = {
    FS_IOC_GETFLAGS: _get_flags,
    FS_IOC_SETFLAGS: _set_flags,
    FS_IOC_FSGETXATTR: _get_extended_flags,
    FS_IOC_FSSETXATTR: _set_extended_flags,
}


def serve_ioctl(filesystem: Filesystem, node: int, body: Body) -> bytes:
    """The payload that answers an IOCTL.

    Raises:
        OSError: ENOTTY for a command that is not served; what the filesystem raises.
        Blocking: of the filesystem.
        MalformedRequestError: the body is too short for its command.
    """
    _flags, command, _argument, _in_size, out_size = IOCTL_IN.decode(body)
    ioctl = _IOCTLS.get(command)
    if ioctl is None:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    # No more and no less than the kernel announced is what it accepts for the requests it makes itself.
    if out_size > _LARGEST_REPLY:
        raise MalformedRequestError(f"{out_size} bytes to reply to ioctl {command:#x}, which has {_LARGEST_REPLY} at most")
    data = ioctl(filesystem, node, body[IOCTL_IN.size :])
    return IOCTL_OUT.pack(0, 0, 0, 0) + data[:out_size].ljust(out_size, b"\0")
