"""The files of an image archive: a directory, or a tar whose members are read in any order."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from unionfs.linux.openat2 import open_below
from unionfs.store.documents import MAX_SIZE
from unionfs.store.errors import CorruptError

_MAX_LINKS = 40
"""As the kernel has it for symbolic links (path_resolution(7))."""

MALFORMED = (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError, EOFError, RecursionError)
"""What tarfile raises for headers that are none: its own errors, and those of the conversions it does."""


_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EXDEV, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
_CHUNK = 1 << 20
_LARGEST_HEADER = 16 << 20
"""Bytes.  An extended header holds names and attributes; its length is whatever it claims."""


class Files(Protocol):
    """Files by name; ``thing`` is what errors call them all."""

    thing: str

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name."""

    def size(self, name: str) -> int:
        """Its size in bytes (CorruptError: it is not there)."""

    def open(self, name: str) -> BinaryIO:
        """Read it from the start (CorruptError: it is not there)."""


def read_document(files: Files, name: str) -> bytes:
    """All of a small file.

    Raises:
        CorruptError: it is missing, or larger than such a file may be.
    """
    if files.size(name) > MAX_SIZE:
        raise CorruptError(f"{name} in {files.thing}", f"larger than {MAX_SIZE} bytes", "make the archive anew")
    with files.open(name) as file:
        return file.read()


def missing(name: str, thing: str) -> CorruptError:
    """The error for a file that is named and not there."""
    return CorruptError(thing, f"has no {name}", "it is incomplete: make it anew")


class DirectoryFiles:
    """The regular files below a directory; symbolic links among them are followed, and lead nowhere else."""

    def __init__(self, directory: Path) -> None:
        self.thing = str(directory)
        self._directory = directory

    def has(self, name: str) -> bool:
        """As `Files`."""
        return self._status(name) is not None

    def size(self, name: str) -> int:
        """As `Files`."""
        status = self._status(name)
        if status is None:
            raise missing(name, self.thing)
        return status.st_size

    def open(self, name: str) -> BinaryIO:
        """As `Files`."""
        # A fifo would be waited for.
        fd = self._open(name, os.O_RDONLY | os.O_NONBLOCK)
        if fd is None:
            raise missing(name, self.thing)
        return open(fd, "rb")

    def _status(self, name: str) -> os.stat_result | None:
        fd = self._open(name, os.O_PATH)
        if fd is None:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _open(self, name: str, flags: int) -> int | None:
        """The regular file of that name; None: there is none.  Names stand in documents that others wrote."""
        try:
            path = os.fsencode(name)
        except UnicodeEncodeError:
            return None  # half of a character
        if b"\0" in path:
            return None
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_below(directory, path, flags)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            return None
        finally:
            os.close(directory)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None


class ArchiveFiles:
    """The members of an uncompressed tar in a seekable file; links among them are followed, and lead nowhere else."""

    def __init__(self, file: BinaryIO, thing: str) -> None:
        """Read the headers of ``file``, which belongs to this object from now on.

        Raises:
            CorruptError: it is no tar, or a truncated one.
        """
        self.thing = thing
        self._file = file
        file.seek(0)
        with reading_tar(thing), tarfile.open(fileobj=cast(BinaryIO, _Headers(file)), mode="r:") as archive:
            # A later member of the same name replaces an earlier one, as in tar(1).
            self._members = {posixpath.normpath(member.name): member for member in archive}

    def has(self, name: str) -> bool:
        """As `Files`."""
        return self._find(name) is not None

    def size(self, name: str) -> int:
        """As `Files`."""
        return self._member(name).size

    def open(self, name: str) -> BinaryIO:
        """As `Files`."""
        member = self._member(name)
        return cast(BinaryIO, io.BufferedReader(_Range(self._file.fileno(), member.offset_data, member.size), 1 << 20))

    def _member(self, name: str) -> tarfile.TarInfo:
        member = self._find(name)
        if member is None:
            raise missing(name, self.thing)
        return member

    def _find(self, name: str) -> tarfile.TarInfo | None:
        name = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            member = self._members.get(name)
            if member is None or member.isreg():
                return None if member is None or member.issparse() else member
            if member.issym():
                name = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
            elif member.islnk():
                name = posixpath.normpath(member.linkname)
            else:
                return None
        return None


class _Headers:
    """What `tarfile` reads headers from: no more at a time than one may have."""

    def __init__(self, file: BinaryIO) -> None:
        self.tell, self.seek = file.tell, file.seek
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """As the file's."""
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


class ForwardHeaders:
    """The same of a stream, which only goes forward: what is in between is read piece by piece, and no more kept."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Forward, or as far as the stream goes."""
        if whence or position < self._position:
            raise tarfile.ReadError("a header points back")
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        return self._position

    def read(self, size: int = -1) -> bytes:
        """As many bytes as there are, up to ``size``."""
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        parts, missing = [], size
        while missing > 0 and (part := self._stream.read(missing)):
            parts.append(part)
            missing -= len(part)
        self._position += size - missing
        return b"".join(parts)


class _Range(io.RawIOBase):
    """A part of a file, by pread(2): several may be read at once."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._end = offset + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = os.pread(self._fd, min(len(buffer), self._end - self._offset), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


@contextlib.contextmanager
def reading_tar(thing: str) -> Iterator[None]:
    """Turn what tarfile raises into `CorruptError`."""
    try:
        yield
    except MALFORMED as error:
        raise CorruptError(thing, f"not a tar, or a damaged or truncated one: {error}", "make it anew") from error
