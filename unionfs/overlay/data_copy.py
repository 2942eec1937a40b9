"""The parts of a copy-up that take long and run in another thread: copying the data of a lower file, waiting for the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

from unionfs.linux.clone import clone_range
from unionfs.overlay.work_dir import StagedFile

_CHUNK = 1 << 20
_SMALL = 64 << 10
"""Bytes that are read and written faster than it takes to ask for anything better."""
_STAT_BLOCK = 512
_CAPABILITY = "security.capability"
_NOT_SUPPORTED = (
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EPERM,
    errno.EBADF,
    errno.ETXTBSY,
)
_NEVER_SUPPORTED = (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY)
"""What tells of the filesystems, and not of just one file, that they cannot share blocks."""


class StagedWork:
    """Work for `unionfs.filesystem.Blocking` on something ``staged``.

    Nobody but it touches that until ``done``; then ``error`` tells how it went.
    """

    __slots__ = ("_abandoned", "_ending", "done", "error", "lane", "staged")

    def __init__(self, staged: StagedFile) -> None:
        self._abandoned = False
        self._ending = threading.Lock()  # between "done" and "abandoned": exactly one of the two threads discards the file
        self.staged = staged
        self.done = False
        self.error: OSError | None = None
        self.lane: object | None = None
        """Of the `Blocking`."""

    def __call__(self) -> None:
        """Do it.  Raises nothing; sets ``error`` and ``done``."""
        try:
            self._work()
        except OSError as error:
            self.error = error
        finally:
            with self._ending:
                self.done = True
                if self._abandoned:
                    self.staged.drop()

    def _work(self) -> None:
        raise NotImplementedError

    def abandon(self) -> None:
        """Nobody wants the result any more: what was staged is dropped as soon as the work has ended."""
        with self._ending:
            self._abandoned = True
            if self.done:
                self.staged.drop()


class Reflinks:
    """Copies that share their blocks with a file of another layer, where the filesystems can.

    It remembers of which layers they cannot, and is not asked for them again.  Any thread may use it: what two find out at a time
    is the same.
    """

    __slots__ = ("_impossible",)

    def __init__(self) -> None:
        self._impossible: set[int] = set()

    def clone(self, source_fd: int, target_fd: int, device: int) -> bool:
        """Make ``target_fd`` share all blocks of ``source_fd``, which is on ``device``; false where that cannot be.

        Raises:
            OSError: ENOSPC, EDQUOT, EIO.
        """
        if device in self._impossible:
            return False
        try:
            clone_range(target_fd, source_fd)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
            if error.errno in _NEVER_SUPPORTED:
                self._impossible.add(device)
            return False
        return True


class DataCopy(StagedWork):
    """Copies all data from ``source``, which gives the descriptor of an open file, to the empty file ``staged``, and makes it
    durable with ``sync``."""

    __slots__ = ("_reflinks", "_size", "_source", "_sync")

    def __init__(
        self, source: AbstractContextManager[int], staged: StagedFile, size: int, sync: bool, reflinks: Reflinks
    ) -> None:
        super().__init__(staged)
        self._source = source
        self._size = size
        self._sync = sync
        self._reflinks = reflinks

    def _work(self) -> None:
        with self._source as source_fd:
            self._copy(source_fd)
            if self._sync:
                # As OverlayFS does: after the rename a power cut must not leave a file without its data.
                os.fsync(self.staged.fd)

    def _copy(self, source_fd: int) -> None:
        copy_data(source_fd, self.staged.fd, self._size, self._reflinks)


class InPlaceCopy(DataCopy):
    """The same into a file that is in the upper layer already and must look as before: a metadata-only copy."""

    def _copy(self, source_fd: int) -> None:
        with looks_as_before(self.staged.fd, self.staged.made):
            super()._copy(source_fd)


class Settling(StagedWork):
    """Makes a copy durable that is complete, metadata included (``fsync=strict``); ``without_data``: a metadata-only one."""

    __slots__ = ("without_data",)

    def __init__(self, staged: StagedFile, without_data: bool) -> None:
        super().__init__(staged)
        self.without_data = without_data

    def _work(self) -> None:
        os.fsync(self.staged.fd)


@contextlib.contextmanager
def looks_as_before(fd: int, before: os.stat_result) -> Iterator[None]:
    """A file, open for writing, that had the attributes ``before`` has its times and its capability again after what is done
    within."""
    capability = _capability(fd)
    yield
    if capability is not None:
        # Every write takes it away.
        os.setxattr(fd, _CAPABILITY, capability)
    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def _capability(fd: int) -> bytes | None:
    try:
        return os.getxattr(fd, _CAPABILITY)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def copy_data(source_fd: int, target_fd: int, size: int, reflinks: Reflinks) -> None:
    """Copy ``size`` bytes; shared blocks where the filesystem can, holes stay holes.

    Raises:
        OSError: what reading or writing gives (EIO, ENOSPC, EDQUOT …).
    """
    source = os.fstat(source_fd)
    if reflinks.clone(source_fd, target_fd, source.st_dev):
        return
    if size <= _SMALL and source.st_blocks * _STAT_BLOCK >= size:
        # It has as many blocks as bytes, so there are no holes to look for.
        _copy_extent(source_fd, target_fd, 0, size, copy_range=False)
        return
    os.ftruncate(target_fd, size)
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source_fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = min(os.lseek(source_fd, start, os.SEEK_HOLE), size)
        _copy_extent(source_fd, target_fd, start, end)
        offset = end


def _copy_extent(source_fd: int, target_fd: int, start: int, end: int, copy_range: bool = True) -> None:
    while start < end:
        if copy_range:
            try:
                copied = os.copy_file_range(source_fd, target_fd, end - start, start, start)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                copy_range = False
                continue
            # Some filesystems (FUSE, procfs) answer 0 before the end; read(2) then tells the truth.
            copy_range = copied > 0
        else:
            data = os.pread(source_fd, min(_CHUNK, end - start), start)
            if not data:
                raise OSError(errno.EIO, "a lower file became shorter while it was copied up")
            copied = os.pwrite(target_fd, data, start)
        start += copied
