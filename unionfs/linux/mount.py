"""Mounting and unmounting, and private copies of mounts."""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_ulong

from unionfs.linux.libc import last_error, libc

# mount(2), include/uapi/linux/mount.h
MS_RDONLY = 1 << 0
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_DIRSYNC = 1 << 7
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_POSIXACL = 1 << 16
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

# umount2(2)
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# open_tree(2) and mount_setattr(2).  Their wrappers are in glibc since 2.36 only; the numbers are the same on every architecture.
_SYS_OPEN_TREE = 428
_SYS_MOUNT_SETATTR = 442
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOUNT_ATTR_RDONLY = 0x01
_MOUNT_ATTR__ATIME = 0x70  # the field that holds one of the atime modes
_MOUNT_ATTR_NOATIME = 0x10


class _MountAttr(ctypes.Structure):
    """``struct mount_attr`` of mount_setattr(2), first version."""

    _fields_ = (("attr_set", c_uint64), ("attr_clr", c_uint64), ("propagation", c_uint64), ("userns_fd", c_uint64))


_mount = libc.mount
_mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = libc.umount2
_umount2.argtypes = (c_char_p, c_int)
_syscall = libc.syscall
_syscall.restype = c_long


def mount(source: bytes, target: bytes, fstype: bytes, flags: int, data: bytes) -> None:
    """mount(2); ``flags`` is a set of ``MS_*`` bits.

    Raises:
        OSError: EPERM (no CAP_SYS_ADMIN), ENOENT, ENOTDIR, ENODEV (filesystem type unknown), EINVAL (options in ``data``), EBUSY.
    """
    if _mount(source, target, fstype, flags, data):
        raise last_error(target)


def umount(target: bytes, flags: int) -> None:
    """umount2(2); ``flags`` is a set of `MNT_FORCE`, `MNT_DETACH`, `UMOUNT_NOFOLLOW`.

    Raises:
        OSError: EPERM (no CAP_SYS_ADMIN), EINVAL (no mount point, or locked), EBUSY (in use), ENOENT.
    """
    if _umount2(target, flags):
        raise last_error(target)


def clone_private(path: bytes) -> int:
    """A descriptor of a detached, private, read-only, noatime copy of the mount that the directory ``path`` is on.

    It is what OverlayFS reads its layers through (``clone_private_mount``): nothing mounted below ``path``, now or later, is
    seen through it, nothing can be changed by mistake, and no atime is touched.  It shows the tree from ``path`` down, and lives
    as long as anything in it is open.  The descriptor is like one of ``O_PATH``: good as ``dir_fd`` of any call, but to list the
    directory itself open ``.`` below it.

    Raises:
        OSError: EPERM (no CAP_SYS_ADMIN), ENOSYS (kernel before 5.12), EINVAL (a mount of another namespace, or one that must
            not be copied), and what open(2) raises for ``path``.  After the first three the caller does without.
    """
    # open_tree(2) would take a file as well, and knows no O_DIRECTORY.
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH)
        fd: int = _syscall(c_long(_SYS_OPEN_TREE), c_int(directory), c_char_p(b""), flags)
        if fd < 0:
            raise last_error(path)
    finally:
        os.close(directory)
    try:
        _set_read_only(fd, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _set_read_only(fd: int, path: bytes) -> None:
    # atime modes are a field, not bits: it must be cleared as a whole for one of them to be set.
    attr = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOATIME, attr_clr=_MOUNT_ATTR__ATIME)
    size = c_size_t(ctypes.sizeof(attr))
    if _syscall(c_long(_SYS_MOUNT_SETATTR), c_int(fd), c_char_p(b""), c_uint(_AT_EMPTY_PATH), byref(attr), size):
        raise last_error(path)
