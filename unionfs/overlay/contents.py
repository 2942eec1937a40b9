"""Contents of regular files: opening, reading, writing."""

from __future__ import annotations

import errno
import os

from unionfs.filesystem import Blocking, Opened
from unionfs.linux.allocate import fallocate
from unionfs.overlay import kinds, ownership
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.real_file import find_data, open_own, read_fd, remote_file, write_fd
from unionfs.overlay.tree import Tree

_NOT_NOW = (errno.EAGAIN, errno.ENOMEM)
"""Of a read that must not wait: the kernel does not wait for memory either."""

_AT_ONCE = 64 << 10
"""Bytes that are copied in less time than it takes another thread to begin."""


class Contents:
    """File contents of one union."""

    def __init__(self, tree: Tree, copy_up: CopyUp, sync: bool) -> None:
        """``sync``: whether fsync is carried out."""
        self._tree = tree
        self._copy_up = copy_up
        self._sync = sync
        self._buffer = memoryview(bytearray())
        self.copying_ranges: set[object] = set()
        """The copies between files that other threads are making, or are about to."""

    def open(self, node: int, flags: int) -> Opened:
        """See `unionfs.filesystem.Filesystem.open`."""
        tree = self._tree
        inode = tree.nodes.find(node)
        if inode is None or (inode.rare is not None and inode.rare.successor is not None):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self.prepare(inode, flags)

    def prepare(self, inode: Inode, flags: int) -> Opened:
        """Make ``inode`` ready for an open with ``flags``."""
        truncates = flags & os.O_TRUNC != 0
        if flags & os.O_ACCMODE != os.O_RDONLY or truncates:
            was_upper = inode.is_upper
            moved = self._copy_up.copy_up(inode, with_data=not truncates)
            if moved is not inode:
                # The kernel holds the lower file in passthrough: it must look the name up again, and finds the copy.
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            if truncates:
                self._cut(inode, 0, was_upper)
            self._tree.nodes.written.add(inode.node)
        elif inode.rare is not None and inode.data is not None:
            find_data(self._tree, inode)  # who opens a file is told that there is no data, not who reads it
        return Opened(_generation(inode), truncates)

    def created(self, inode: Inode) -> Opened:
        """Tell of a file that was just made and is open for writing."""
        self._tree.nodes.written.add(inode.node)
        return Opened(_generation(inode))

    def read(self, inode: Inode, offset: int, size: int) -> memoryview:
        """Read what is in memory at once; otherwise raise `Blocking`, so that nobody else waits for the disk."""
        if inode.fd < 0:
            remote = remote_file(self._tree, inode)
            if remote is not None:
                return memoryview(remote.read(lambda fd: _pread(fd, size, offset)))
        fd = read_fd(self._tree, inode)
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
        # One buffer for all reads: memory for 1 MiB that is new each time costs more than reading it (a page fault for 4 KiB).
        buffer = self._buffer[:size]
        try:
            count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                # A filesystem in memory, or one that cannot tell: the page cache is all there is to ask.
                return buffer[: os.preadv(fd, [buffer], offset)]
            if error.errno not in _NOT_NOW:
                raise
            count = -1
        # Fewer bytes than asked for mean either the end of the file or that the rest is not in memory.
        if count == size or (count >= 0 and offset + count >= os.fstat(fd).st_size):
            return buffer[:count]
        raise Blocking(_Read(os.dup(fd), offset, size), restart=False)

    def write(self, inode: Inode, offset: int, data: bytes | memoryview, kill_suidgid: bool) -> int:
        """Write all of ``data``, after a copy-up if need be."""
        inode = self._copy_up.copy_up(inode)
        fd = write_fd(self._tree, inode)
        if kill_suidgid:
            self.kill_suidgid(inode)
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            # Only a full disk or a limit makes it short; the next call then says which.
            rest = memoryview(data)[written:]
            try:
                written += os.pwrite(fd, rest, offset + written)
            except OSError:
                return written
        return written

    def kill_suidgid(self, inode: Inode) -> None:
        """Drop the set-id bits, as the kernel does when somebody without CAP_FSETID writes (setattr_should_drop_suidgid)."""
        mode = ownership.stored(self._tree, inode, self._tree.stat(inode)).mode
        kept = ownership.without_set_ids(mode)
        if kept != mode:
            ownership.chmod(self._tree, inode, kept)

    def truncate(self, inode: Inode, size: int) -> Inode:
        """Set the length of a file; the inode that stands for it from now on."""
        if inode.kind != kinds.REG:
            raise OSError(errno.EISDIR if inode.kind == kinds.DIR else errno.EINVAL, "only a regular file has a length")
        was_upper = inode.is_upper
        inode = self._copy_up.copy_up(inode, with_data=size > 0)
        self._cut(inode, size, was_upper)
        return inode

    def _cut(self, inode: Inode, size: int, was_upper: bool) -> None:
        fd = write_fd(self._tree, inode)
        # A copy without data came into view empty, as of now: there is no step left that could fail after the data is gone.
        if was_upper or size > 0 or os.fstat(fd).st_size > 0:
            os.ftruncate(fd, size)

    def fallocate(self, inode: Inode, offset: int, length: int, mode: int) -> None:
        """fallocate(2) on the upper file."""
        inode = self._copy_up.copy_up(inode)
        fallocate(write_fd(self._tree, inode), mode, offset, length)

    def copy_range(self, source: Inode, source_offset: int, target: Inode, target_offset: int, length: int) -> int:
        """copy_file_range(2), in another thread where it may take long: then it raises `Blocking`, whose work returns the number
        of bytes."""
        target = self._copy_up.copy_up(target)
        # In this order: the copy-up may have been that of the source too.
        target_fd = write_fd(self._tree, target)
        if source.fd < 0 and remote_file(self._tree, source) is not None:
            raise OSError(errno.EXDEV, "read and write: nobody shares blocks with a remote layer")
        source_fd = read_fd(self._tree, source)
        if min(length, os.fstat(source_fd).st_size - source_offset) <= _AT_ONCE:
            return os.copy_file_range(source_fd, target_fd, length, source_offset, target_offset)
        raise Blocking(_CopyRange(self.copying_ranges, source_fd, source_offset, target_fd, target_offset, length), restart=False)

    def lseek(self, inode: Inode, offset: int, whence: int) -> int:
        """SEEK_DATA and SEEK_HOLE."""
        if inode.fd < 0:
            remote = remote_file(self._tree, inode)
            if remote is not None:
                return remote.read(lambda fd: os.lseek(fd, offset, whence))
        return os.lseek(read_fd(self._tree, inode), offset, whence)

    def fsync(self, inode: Inode, datasync: bool) -> None:
        """Have the upper object written out.  A lower one needs nothing: it did not change."""
        if not self._sync or not inode.is_upper:
            return
        # Of a metadata-only copy the upper file is what changed, not the one that has the data.
        if isinstance(inode, Directory):
            if inode.upper is None:
                return
            fd = self._tree.dir_fd(inode.upper)
        elif inode.data is not None:
            raise Blocking(_Fsync(open_own(self._tree, inode, os.O_RDONLY | os.O_CLOEXEC), datasync), restart=False)
        else:
            fd = read_fd(self._tree, inode)
        raise Blocking(_Fsync(os.dup(fd), datasync), restart=False)


def _generation(inode: Inode) -> int:
    """See `Opened.generation`: which layer's the file is that has the data."""
    if inode.rare is not None:
        if inode.carried:
            return inode.carried
        if isinstance(inode.data, DataPlace):
            return inode.data.place.layer.generation
    return inode.place.layer.generation


class _Read:
    """Reads in another thread, by a descriptor of its own: the pool may close the file's meanwhile."""

    __slots__ = ("_fd", "_offset", "_size")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._size = size

    def __call__(self) -> bytes:
        try:
            return _pread(self._fd, self._size, self._offset)
        finally:
            os.close(self._fd)


def _pread(fd: int, size: int, offset: int) -> bytes:
    """pread(2) up to the end of the file, in another thread."""
    parts = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


class _CopyRange:
    """Copies between two files in another thread, by descriptors of its own."""

    __slots__ = ("_length", "_running", "_source_fd", "_source_offset", "_target_fd", "_target_offset")

    def __init__(
        self, running: set[object], source_fd: int, source_offset: int, target_fd: int, target_offset: int, length: int
    ) -> None:
        self._source_offset = source_offset
        self._target_offset = target_offset
        self._length = length
        self._source_fd = os.dup(source_fd)
        try:
            self._target_fd = os.dup(target_fd)
        except OSError:
            os.close(self._source_fd)
            raise
        self._running = running
        running.add(self)

    def __call__(self) -> int:
        try:
            return os.copy_file_range(self._source_fd, self._target_fd, self._length, self._source_offset, self._target_offset)
        finally:
            os.close(self._source_fd)
            os.close(self._target_fd)
            self._running.discard(self)


class _Fsync:
    """Waits for the disk in another thread."""

    __slots__ = ("_datasync", "_fd")

    def __init__(self, fd: int, datasync: bool) -> None:
        self._fd = fd
        self._datasync = datasync

    def __call__(self) -> None:
        try:
            (os.fdatasync if self._datasync else os.fsync)(self._fd)
        finally:
            os.close(self._fd)
