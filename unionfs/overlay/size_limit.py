"""How much the writable layer of a union may take, counted by us: for filesystems without project quotas.

What counts is what the real files occupy (``st_blocks``), holes left out: of everything in the upper, and of files that have no
name any more but are still in use.  It is counted once, at the mount; from then on every operation that takes or gives back
blocks says so.  A copy-up takes its room before it begins (`SizeLimit.reserve`), since several may be under way at a time.

Extended attributes and directories count by the blocks that they occupy; whiteouts and empty files occupy none.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable

_log = logging.getLogger("unionfs.overlay")

STAT_BLOCK = 512
"""Bytes of a block that ``st_blocks`` counts, whatever the filesystem's blocks are."""


class SizeLimit:
    """The room of one writable layer.

    Attributes:
        limit: bytes that it may take.
        used: bytes that it takes.
        reserved: bytes that copy-ups under way will take.
        block: bytes that the filesystem gives out at a time.
        directory_cost: bytes that an empty directory takes.
    """

    __slots__ = ("block", "directory_cost", "limit", "reserved", "used")

    def __init__(self, limit: int, block: int, directory_cost: int) -> None:
        self.limit = limit
        self.block = block
        self.directory_cost = directory_cost
        self.used = 0
        self.reserved = 0

    @property
    def room(self) -> int:
        """Bytes that may still be taken; 0 also where more is taken than allowed, as after a mount with a smaller limit."""
        return max(self.limit - self.used - self.reserved, 0)

    def demand(self, size: int) -> None:
        """Do nothing but raise ENOSPC where there is no room for ``size`` bytes; none is always there."""
        if size > 0 and size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def reserve(self, size: int) -> None:
        """Keep ``size`` bytes free for what is about to take them; give them back by `release`.  ENOSPC as `demand`."""
        self.demand(size)
        self.reserved += size

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self.reserved -= size

    def take(self, size: int) -> None:
        """``size`` bytes are about to be part of the layer for good.  ENOSPC as `demand`."""
        self.demand(size)
        self.used += size

    def charge(self, size: int) -> None:
        """``size`` bytes were taken, or given back (then negative)."""
        # A filesystem may give back more than it had said to take: blocks for its own bookkeeping come when data is written out.
        self.used = max(self.used + size, 0)

    def up_to(self, size: int) -> int:
        """``size`` rounded up to whole blocks."""
        return -(-size // self.block) * self.block

    def writable(self, fd: int, offset: int, length: int) -> int:
        """How many of ``length`` bytes at ``offset`` of an open file can be written now.

        What has its blocks already is always writable.  Where blocks were allocated without data (fallocate) a filesystem shows a
        hole; so whatever the whole file still lacks is a bound as well.
        """
        if self.up_to(length) + self.block <= self.room:
            return length
        st = os.fstat(fd)
        if self._lacks(st, offset + length) <= self.room:
            return length
        return self._fill(fd, st.st_size, offset, offset + length) - offset

    def allocatable(self, fd: int, offset: int, length: int, keeps_size: bool) -> bool:
        """Whether fallocate(2) can give all of ``length`` bytes at ``offset`` their blocks."""
        if self.up_to(length) + self.block <= self.room:
            return True
        st = os.fstat(fd)
        if not keeps_size and self._lacks(st, offset + length) <= self.room:
            return True
        return self._fill(fd, st.st_size, offset, offset + length) == offset + length

    def _lacks(self, st: os.stat_result, end: int) -> int:
        """The most that a file can take more when it is written up to ``end``."""
        return max(self.up_to(max(st.st_size, end)) - st.st_blocks * STAT_BLOCK, 0)

    def _fill(self, fd: int, size: int, offset: int, end: int) -> int:
        """How far from ``offset`` towards ``end`` there is room for the blocks of all holes."""
        room = self.room
        while offset < end:
            if offset < size:
                offset = os.lseek(fd, offset, os.SEEK_HOLE)
            if size <= offset < self.up_to(size) and _next_data(fd, size - 1, size, end) == size - 1:
                # The last block of a file has room for more than the file has bytes.
                offset = self.up_to(size)
            if offset >= end:
                break
            data = min(_next_data(fd, offset, size, end), end)
            step = min(data - offset, room - offset % self.block) if room >= self.block else 0
            if step <= 0:
                return offset
            room -= self.up_to(offset % self.block + step)
            offset += step
        return end

    def shown(self, real: os.statvfs_result) -> tuple[int, int, int]:
        """Total, free and available blocks (of ``f_frsize`` bytes) for statfs: never more than the real filesystem has."""
        size = real.f_frsize
        room = self.room // size
        total = min(-(-self.limit // size), real.f_blocks)
        return total, min(room, real.f_bfree, total), min(room, real.f_bavail, total)


def _next_data(fd: int, offset: int, size: int, end: int) -> int:
    if offset >= size:
        return end
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but a hole up to the end
            raise
        return end


def blocks_of(st: os.stat_result) -> int:
    """Bytes that an object occupies."""
    return st.st_blocks * STAT_BLOCK


def open_limit(limit: int, root_fds: Iterable[int], work_fd: int) -> SizeLimit:
    """Count what the upper takes, which lies in ``root_fds`` (see `count`); ``work_fd``: the staging directory, just emptied.

    Raises:
        OSError: a directory of the upper cannot be read.
    """
    real = os.fstatvfs(work_fd)
    opened = SizeLimit(limit, real.f_frsize, min(blocks_of(os.fstat(work_fd)), real.f_frsize))
    opened.used = count(root_fds)
    level = logging.WARNING if opened.used > limit else logging.INFO
    _log.log(level, "size limit: accounted: the upper takes %d bytes of %d", opened.used, limit)
    return opened


def count(root_fds: Iterable[int]) -> int:
    """Bytes that all in these directories of one filesystem (the upper and its index) occupies; names of one file count once."""
    seen: set[int] = set()
    return sum(_count_below(fd, seen) for fd in root_fds)


def _count_below(root_fd: int, seen: set[int]) -> int:
    total = blocks_of(os.fstat(root_fd))
    for _, directories, files, fd in os.fwalk(b".", dir_fd=root_fd, follow_symlinks=False, onerror=_refuse):
        for name in (*directories, *files):
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
                if st.st_ino in seen:
                    continue
                seen.add(st.st_ino)
            total += blocks_of(st)
    return total


def _refuse(error: OSError) -> None:
    # What is not counted would be room that is not there.
    raise error
