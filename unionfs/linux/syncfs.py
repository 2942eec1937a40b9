"""syncfs(2): write out what one filesystem has in memory."""

from __future__ import annotations

from ctypes import c_int

from unionfs.linux.libc import last_error, libc

_syncfs = libc.syncfs
_syncfs.argtypes = (c_int,)


def syncfs(fd: int) -> None:
    """Write out all dirty pages and metadata of the filesystem that ``fd`` is on.

    Raises:
        OSError: EIO, ENOSPC: something could not be written (since Linux 5.8 also what failed earlier).
    """
    if _syncfs(fd):
        raise last_error()
