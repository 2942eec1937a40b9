"""Writing what the kernel held back (writeback cache), and telling of it when that fails.

By then write(2) has said yes.  close(2) and fsync(2) tell, but nothing else does, so who writes until the disk is full would
never end.  When the attributes of a file are gone the kernel asks for them at the next write(2) (fs/fuse/file.c,
fuse_cache_write_iter), and that fails if this does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from unionfs.filesystem import SET_MTIME, Caller, Changes, Filesystem

_SECOND = 1_000_000_000  # in nanoseconds


class WriteBack:
    """The held back writes of one connection."""

    def __init__(self, filesystem: Filesystem, invalidate_attributes: Callable[[int], None]) -> None:
        """``invalidate_attributes``: makes the kernel forget those of a node."""
        self._filesystem = filesystem
        self._invalidate_attributes = invalidate_attributes
        self.lost: dict[int, OSError] = {}
        """By node: why data was lost, until somebody is told."""

    def write(self, node: int, offset: int, data: memoryview, kill_suidgid: bool, caller: Caller) -> int:
        """Write all of ``data``; how many bytes that is.

        Raises:
            OSError: not all was written; `lost` has it as well.
        """
        try:
            return self._write(node, offset, data, kill_suidgid, caller)
        except OSError as error:
            self.lost[node] = OSError(error.errno, error.strerror)
            self._invalidate_attributes(node)
            raise

    def _write(self, node: int, offset: int, data: memoryview, kill_suidgid: bool, caller: Caller) -> int:
        # The kernel owns the mtime of what it writes back, but sends it only if it changed in its own eyes: not when the caller
        # wrote within the clock tick in which the file was made.  So the later time of this WRITE must not stay.
        before = self._filesystem.getattr(node)
        written = self._filesystem.write(node, offset, data, kill_suidgid)
        while written < len(data):
            # The kernel does not look at how many bytes were written (fuse_writepage_end).
            more = self._filesystem.write(node, offset + written, data[written:], kill_suidgid)
            if not more:
                raise OSError(errno.EIO, "nothing was written")
            written += more
        mtime_ns = before.mtime * _SECOND + before.mtimensec
        self._filesystem.setattr(node, Changes(SET_MTIME, mtime_ns=mtime_ns), caller)
        return written

    def asked(self, node: int, *, with_file: bool) -> None:
        """The kernel asks for the attributes of ``node``; ``with_file``: on behalf of an open file.

        Raises:
            OSError: why data of it was lost.
        """
        # Who has not the file gets what it asked for; then the kernel has the attributes, and asks at no write(2) either.
        lost = self.lost.pop(node, None)
        if lost is not None and with_file:
            raise lost
