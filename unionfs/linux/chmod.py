"""fchmodat2(2): changing the mode of what a path names, and never of what a symbolic link there leads to.

``os.chmod`` cannot (``follow_symlinks=False`` is not implemented on Linux), since fchmodat(2) had no flags before Linux 6.6.
"""

from __future__ import annotations

import errno
import os
import stat
from ctypes import c_char_p, c_int, c_long, c_uint

from unionfs.linux.libc import last_error, libc

_SYS_FCHMODAT2 = 452  # the same on all architectures (but alpha)
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_FDCWD = -100
_UNKNOWN = (errno.ENOSYS, errno.EPERM)
"""Linux before 6.6; the latter where a seccomp filter older than the call refuses it: then the other way tells."""

_syscall = libc.syscall


def change_mode(path: bytes, mode: int, dir_fd: int | None = None) -> None:
    """Give the object at ``path`` (relative to ``dir_fd``) the permissions ``mode``; the last component is not followed.

    Raises:
        OSError: EOPNOTSUPP: it is a symbolic link; others as chmod(2).
    """
    directory = _AT_FDCWD if dir_fd is None else dir_fd
    flags = c_int(_AT_SYMLINK_NOFOLLOW)
    if _syscall(c_long(_SYS_FCHMODAT2), c_int(directory), c_char_p(path), c_uint(mode), flags) == 0:
        return
    error = last_error(path)
    if error.errno not in _UNKNOWN:
        raise error
    _by_descriptor(path, mode, dir_fd)


def _by_descriptor(path: bytes, mode: int, dir_fd: int | None) -> None:
    """As the C library does where the call is not there (sysdeps/unix/sysv/linux/fchmodat.c)."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
