"""openat2(2): opening a path that may not lead out of a directory, whatever symbolic links somebody has put there."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_char_p, c_int, c_long, c_size_t

from unionfs.linux.libc import last_error, libc

_SYS_OPENAT2 = 437  # the same on all architectures
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _IN_ROOT = 0x02, 0x04, 0x08, 0x10  # include/uapi/linux/openat2.h

_TRIES = 128
"""A rename or a mount anywhere on the machine while ``..`` is looked up makes it fail with EAGAIN (openat2(2))."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = libc.syscall
_syscall.restype = c_long


def open_beneath(directory: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open ``path``, which is relative, below the open ``directory``; the descriptor is close-on-exec.

    Raises:
        OSError: as open(2); ELOOP: a symbolic link is on the way, or at its end; EXDEV: it leads out by ``..``; ENOSYS: Linux
            before 5.6.
    """
    return _open(directory, path, _OpenHow(flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH))


def open_below(directory: int, path: bytes, flags: int) -> int:
    """As `open_beneath`, but symbolic links are followed as long as none leads out.

    Raises:
        OSError: as open(2); EXDEV: ``..`` or a link leads out (an absolute one does); ELOOP: a link of /proc, or too many;
            ENOSYS: Linux before 5.6.
    """
    return _open(directory, path, _OpenHow(flags | os.O_CLOEXEC, 0, _NO_MAGICLINKS | _BENEATH))


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open ``path`` as a process would whose root directory is ``root``: absolute links and ``..`` stay inside.

    Raises:
        OSError: as open(2); ELOOP: a link of /proc, or too many; ENOSYS: Linux before 5.6.
    """
    return _open(root, os.fsencode(path), _OpenHow(flags | os.O_CLOEXEC, 0, _NO_MAGICLINKS | _IN_ROOT))


def _open(directory: int, path: bytes, how: _OpenHow) -> int:
    for _ in range(_TRIES):
        fd: int = _syscall(
            c_long(_SYS_OPENAT2), c_int(directory), c_char_p(path), ctypes.byref(how), c_size_t(ctypes.sizeof(how))
        )
        if fd >= 0:
            return fd
        error = last_error(path)
        if error.errno != errno.EAGAIN:
            break
    raise error
