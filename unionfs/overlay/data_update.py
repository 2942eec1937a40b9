"""A copy that was made of a file before is made equal to it again, by writing only what differs."""

from __future__ import annotations

import errno
import os

from unionfs.linux.allocate import fallocate
from unionfs.overlay.data_copy import Reflinks

_CHUNK = 256 << 10
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02  # include/uapi/linux/falloc.h


def update_data(source_fd: int, target_fd: int, size: int, reflinks: Reflinks) -> None:
    """Let ``target_fd`` (open for reading too), a copy of what ``source_fd`` was once, have its ``size`` bytes as they are now.

    Both are read; that takes a part of the time of writing, and what was written out need not be written out again.

    Raises:
        OSError: what reading or writing gives; EIO: the file became shorter meanwhile.
    """
    os.ftruncate(target_fd, size)
    if reflinks.clone(source_fd, target_fd, os.fstat(source_fd).st_dev):
        return
    offset = 0
    while offset < size:
        start = _next_data(source_fd, offset, size)
        _clear(target_fd, offset, start)
        if start >= size:
            break
        offset = min(os.lseek(source_fd, start, os.SEEK_HOLE), size)
        _update_extent(source_fd, target_fd, start, offset)


def _next_data(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but a hole up to the end
            raise
        return size


def _clear(fd: int, start: int, end: int) -> None:
    """Let there be zeros, where there is anything else."""
    if start >= end or _next_data(fd, start, end) >= end:
        return
    try:
        fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, end - start)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        for offset in range(start, end, _CHUNK):
            os.pwrite(fd, bytes(min(_CHUNK, end - offset)), offset)


def _update_extent(source_fd: int, target_fd: int, start: int, end: int) -> None:
    while start < end:
        data = os.pread(source_fd, min(_CHUNK, end - start), start)
        if not data:
            raise OSError(errno.EIO, "a file became shorter while it was copied")
        if data != os.pread(target_fd, len(data), start):
            written = 0
            while written < len(data):
                written += os.pwrite(target_fd, data[written:], start + written)
        start += len(data)
