"""A file that is a disk: every write to it is noted, and every flush; ``python -m tests.crash.recorder MOUNTPOINT LOG IMAGE``.

It is the file ``disk`` of a filesystem of its own, for a loop device over it: what the kernel writes to that comes here as it
would come to a disk, with the barriers of its journals.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyfuse3
import trio

from unionfs.linux.libc import libc

NAME = b"disk"
_PR_SET_PDEATHSIG = 1
_DISK = 2
_HEADER = struct.Struct("=QQ")  # where it is written, how much; a flush is written nowhere
_FLUSH = (1 << 64) - 1


class Write(NamedTuple):
    """What came to the disk; ``data`` None: a flush, so all that came before has stayed."""

    offset: int
    data: bytes | None
    end: int
    """How long the log is with it."""


def read_log(path: Path) -> Iterator[Write]:
    """All of it, in order."""
    with path.open("rb") as log:
        yield from read_writes(log)


def read_writes(log: BinaryIO) -> Iterator[Write]:
    """What follows in a log, from where it is open."""
    while len(header := log.read(_HEADER.size)) == _HEADER.size:
        offset, length = _HEADER.unpack(header)
        data = None if offset == _FLUSH else log.read(length)
        yield Write(offset, data, log.tell())


class _Disk(pyfuse3.Operations):
    def __init__(self, image: Path, log: Path) -> None:
        super().__init__()
        self._fd = os.open(image, os.O_RDWR)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)

    async def getattr(self, inode: int, ctx: object = None) -> pyfuse3.EntryAttributes:
        del ctx
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = inode
        attributes.st_mode = stat.S_IFREG | 0o600 if inode == _DISK else stat.S_IFDIR | 0o700
        attributes.st_size = os.fstat(self._fd).st_size
        return attributes

    async def lookup(self, parent: int, name: bytes, ctx: object = None) -> pyfuse3.EntryAttributes:
        del ctx
        if (parent, name) != (pyfuse3.ROOT_INODE, NAME):
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(_DISK)

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        del flags, ctx
        return pyfuse3.FileInfo(fh=inode, direct_io=True)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        del fh
        return os.pread(self._fd, size, offset)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        del fh
        os.pwrite(self._fd, data, offset)
        os.writev(self._log, [_HEADER.pack(offset, len(data)), data])
        return len(data)

    async def fsync(self, fh: int, datasync: bool) -> None:
        del fh, datasync
        os.write(self._log, _HEADER.pack(_FLUSH, 0))


def main() -> None:
    """Serve until it is unmounted, or whoever started this has ended."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    mountpoint, log, image = map(Path, sys.argv[1:])
    options = {*pyfuse3.default_options, "fsname=recorder"}
    pyfuse3.init(_Disk(image, log), str(mountpoint), options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
