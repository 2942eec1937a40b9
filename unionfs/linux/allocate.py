"""fallocate(2) with its modes; ``os.posix_fallocate`` has none, and writes zeros where the filesystem cannot allocate."""

from __future__ import annotations

from ctypes import c_int, c_int64

from unionfs.linux.libc import last_error, libc

# include/uapi/linux/falloc.h
FALLOC_FL_ALLOCATE_RANGE = 0x00
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_COLLAPSE_RANGE = 0x08
FALLOC_FL_ZERO_RANGE = 0x10
FALLOC_FL_INSERT_RANGE = 0x20
FALLOC_FL_UNSHARE_RANGE = 0x40

_fallocate = libc.fallocate64
_fallocate.argtypes = (c_int, c_int, c_int64, c_int64)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Allocate, free or zero ``length`` bytes of a file from ``offset`` on; ``mode`` is a set of ``FALLOC_FL_*`` bits.

    Raises:
        OSError: EOPNOTSUPP (mode unknown to the filesystem), EINVAL (range or combination of bits), ENOSPC, EFBIG,
            EBADF (not open for writing), ENODEV (neither a regular file nor a directory), ESPIPE (a pipe), EINTR.
    """
    if _fallocate(fd, mode, offset, length):
        raise last_error()
