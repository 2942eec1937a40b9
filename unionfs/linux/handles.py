"""File handles: names for inodes that stay the same over renames, remounts and reboots."""

from __future__ import annotations

import ctypes
import errno
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_ubyte, c_uint, string_at

from unionfs.linux.libc import last_error, libc

AT_EMPTY_PATH = 0x1000
AT_SYMLINK_FOLLOW = 0x400

_MAX_HANDLE_SZ = 128  # include/linux/exportfs.h: no filesystem makes a longer one


class _FileHandle(ctypes.Structure):
    """``struct file_handle`` of open_by_handle_at(2), with room for the longest handle."""

    _fields_ = (("handle_bytes", c_uint), ("handle_type", c_int), ("f_handle", c_ubyte * _MAX_HANDLE_SZ))


_name_to_handle_at = libc.name_to_handle_at
_name_to_handle_at.argtypes = (c_int, c_char_p, POINTER(_FileHandle), POINTER(c_int), c_int)
_open_by_handle_at = libc.open_by_handle_at
_open_by_handle_at.argtypes = (c_int, POINTER(_FileHandle), c_int)


def name_to_handle_at(dir_fd: int, name: bytes, flags: int = 0) -> tuple[int, bytes]:
    """Type and bytes (*fid*) of the handle of ``name`` in ``dir_fd``, or of ``dir_fd`` itself (empty name, `AT_EMPTY_PATH`).

    Both are what OverlayFS stores in an origin (``struct ovl_fb``).  A symbolic link is not followed without
    `AT_SYMLINK_FOLLOW`.

    Raises:
        OSError: EOPNOTSUPP (the filesystem has no handles), ENOENT, ENOTDIR.
    """
    handle = _FileHandle(handle_bytes=_MAX_HANDLE_SZ)
    mount_id = c_int()
    if _name_to_handle_at(dir_fd, name, byref(handle), byref(mount_id), flags):
        raise last_error(name)
    return handle.handle_type, string_at(handle.f_handle, handle.handle_bytes)


_ATTEMPTS = 100
_MOMENT = 0.001


def open_by_handle_at(mount_fd: int, kind: int, fid: bytes, flags: int) -> int:
    """A new descriptor of the object a handle means; ``mount_fd`` is anything open on the filesystem the handle is of.

    ``flags`` are those of open(2) (``O_PATH`` for a symbolic link); ``O_CLOEXEC`` is not added.

    Raises:
        OSError: ESTALE (no such object any more), EPERM (no CAP_DAC_READ_SEARCH in the initial user namespace; newer kernels
            ask for less), EINVAL (no handle of this filesystem), EOPNOTSUPP, ELOOP (a symbolic link without ``O_PATH``).
    """
    if len(fid) > _MAX_HANDLE_SZ:
        raise ValueError(f"a file handle has at most {_MAX_HANDLE_SZ} bytes, this one has {len(fid)}")
    handle = _FileHandle(len(fid), kind, (c_ubyte * _MAX_HANDLE_SZ)(*fid))
    attempts = 0
    while (fd := int(_open_by_handle_at(mount_fd, byref(handle), flags))) < 0:
        error = last_error()
        attempts += 1
        if error.errno != errno.ENOMEM or attempts > _ATTEMPTS:
            raise error
        # The number of an object that is gone is just being given to a new file: iget_locked() of fs/inode.c finds no inode then
        # (I_CREATING), which ext4_iget() takes for a lack of memory.  In a moment it is ESTALE.
        time.sleep(_MOMENT)
    return fd
