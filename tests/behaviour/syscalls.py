"""System calls that the tests need and that Python's os has not, or not in the raw form that is tested here."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE = 0x08, 0x20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.getxattr.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.listxattr.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_libc.getxattr.restype = _libc.listxattr.restype = ctypes.c_ssize_t
_libc.getdents64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
_libc.getdents64.restype = ctypes.c_ssize_t


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


@contextmanager
def fails_with(number: int) -> Iterator[None]:
    """The body must raise OSError with exactly this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is compared below
        yield
    assert caught.value.errno == number, f"expected {os.strerror(number)}, got {caught.value.strerror}"


def renameat2(old: os.PathLike[str], new: os.PathLike[str], flags: int) -> None:
    """renameat2(2) of two paths."""
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_descriptor(fd: int, new: os.PathLike[str]) -> None:
    """linkat(2) of an open file, as for O_TMPFILE."""
    _check(_libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, os.fsencode(new), AT_SYMLINK_FOLLOW))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _check(_libc.fallocate(fd, mode, offset, length))


def getxattr_size(path: os.PathLike[str], name: str, room: int) -> int:
    """getxattr(2) with a buffer of ``room`` bytes (0 asks for the size): the size of the value."""
    buffer = ctypes.create_string_buffer(room) if room else None
    return _check(_libc.getxattr(os.fsencode(path), name.encode(), buffer, room))


def listxattr_size(path: os.PathLike[str], room: int) -> int:
    """listxattr(2) with a buffer of ``room`` bytes (0 asks for the size): the size of the list."""
    buffer = ctypes.create_string_buffer(room) if room else None
    return _check(_libc.listxattr(os.fsencode(path), buffer, room))


class Dirent(NamedTuple):
    """A row of getdents64(2); ``offset`` is what lseek(2) takes to go on behind it."""

    ino: int
    offset: int
    kind: int
    name: bytes


_DIRENT = struct.Struct("=QqHB")


def getdents(fd: int, room: int = 4096) -> list[Dirent]:
    """One getdents64(2) with a buffer of ``room`` bytes; empty at the end of the directory."""
    buffer = ctypes.create_string_buffer(room)
    used = _check(_libc.getdents64(fd, buffer, room))
    rows, at = [], 0
    while at < used:
        ino, offset, length, kind = _DIRENT.unpack_from(buffer, at)
        name = buffer.raw[at + _DIRENT.size : at + length].split(b"\0", 1)[0]
        rows.append(Dirent(ino, offset, kind, name))
        at += length
    return rows


def all_dents(fd: int, room: int = 4096) -> list[Dirent]:
    """The rows of a directory from where ``fd`` stands to its end."""
    rows: list[Dirent] = []
    while more := getdents(fd, room):
        rows += more
    return rows


@contextmanager
def opened(path: os.PathLike[str], flags: int, mode: int = 0o666) -> Iterator[int]:
    """A descriptor of ``path`` for the time of a with block."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)
