"""Names for open files."""

from __future__ import annotations

import errno
from ctypes import c_char_p, c_int

from unionfs.linux.libc import last_error, libc

_AT_FDCWD = -100
_AT_SYMLINK_FOLLOW = 0x400
_AT_EMPTY_PATH = 0x1000

_linkat = libc.linkat
_linkat.argtypes = (c_int, c_char_p, c_int, c_char_p, c_int)


def fd_path(fd: int) -> bytes:
    """A path that leads to what ``fd`` has open, whatever became of its name; also for an ``O_PATH`` descriptor."""
    return b"/proc/self/fd/%d" % fd


def link_fd(fd: int, dir_fd: int, name: bytes) -> None:
    """Give an open file the name ``name`` in ``dir_fd``; also a file made with ``O_TMPFILE``, that has none yet.

    linkat(2) with AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH in the initial user namespace, and says ENOENT without it; then it
    goes through /proc, which costs more.

    Raises:
        OSError: EEXIST (never replaces), ENOENT (the last name of the file was removed, or /proc is not mounted), EXDEV (another
            filesystem or mount), EMLINK, ENOSPC.
    """
    if not _linkat(fd, b"", dir_fd, name, _AT_EMPTY_PATH):
        return
    error = last_error(name)
    if error.errno != errno.ENOENT:
        raise error
    if _linkat(_AT_FDCWD, fd_path(fd), dir_fd, name, _AT_SYMLINK_FOLLOW):
        raise last_error(name)
