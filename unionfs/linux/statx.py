"""statx(2), as far as stat(2) does not tell: the time of birth."""

from __future__ import annotations

import ctypes
import struct
from ctypes import c_char_p, c_int, c_uint, c_void_p

from unionfs.linux.libc import last_error, libc

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_SECOND = 10**9

# include/uapi/linux/stat.h, struct statx: stx_mask is at 0, stx_btime (seconds, nanoseconds) at 80.
_SIZE = 256
_MASK_AND_BTIME = struct.Struct("=I76xqI")

_statx = libc.statx
_statx.argtypes = (c_int, c_char_p, c_int, c_uint, c_void_p)


def birth_time(path: bytes, *, follow_symlinks: bool) -> int | None:
    """When the object at ``path`` was made, in nanoseconds since the epoch; None where the filesystem does not know.

    Raises:
        OSError: as stat(2): ENOENT, ENOTDIR, EACCES, ELOOP.
    """
    buffer = ctypes.create_string_buffer(_SIZE)
    if _statx(_AT_FDCWD, path, 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer):
        raise last_error(path)
    mask, seconds, nanoseconds = _MASK_AND_BTIME.unpack_from(buffer)
    return seconds * _SECOND + nanoseconds if mask & _STATX_BTIME else None
