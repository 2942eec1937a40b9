"""Opening files inside a root filesystem: no symbolic link in it leads out."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_uint64

from unionfs.linux.libc import last_error, libc

# openat2(2), include/uapi/linux/openat2.h; it has no wrapper in glibc.
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_TRIES = 128
"""A rename or a mount anywhere on the machine while ``..`` is looked up makes it fail with EAGAIN (openat2(2))."""


class _OpenHow(ctypes.Structure):
    """``struct open_how``."""

    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


def open_in_root(root_fd: int, path: str, flags: int) -> int:
    """Open ``path`` as a process would whose root directory is ``root_fd``: absolute links and ``..`` stay inside.

    Raises:
        OSError: as open(2); ENOSYS (kernel before 5.6).
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    call, name = libc.syscall, os.fsencode(path)
    for _ in range(_TRIES):
        fd: int = call(c_long(_SYS_OPENAT2), c_int(root_fd), c_char_p(name), byref(how), c_size_t(ctypes.sizeof(how)))
        if fd >= 0:
            return fd
        error = last_error(name)
        if error.errno != errno.EAGAIN:
            break
    raise error
