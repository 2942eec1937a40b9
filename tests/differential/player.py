"""The operations themselves: values that can be played on any directory, and that tell what came of them."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unionfs.linux.rename import renameat2

NAMES = ("a", "b", "c", "d")
"""All names there are in the trees of the differential tests."""
MOST_HELD = 4
"""How many files a player holds open."""
_AT_FDCWD = -100
_LONG_AGO_NS = 1_000_000_000 * 10**9

Outcome = Any
"""What an operation gave: a value that must be the same on every mount, or ``("errno", number)``."""


@dataclass(frozen=True)
class Operation:
    """One step: ``name`` is a method of who plays it, a `Player` or another."""

    name: str
    arguments: tuple[Any, ...]

    def play(self, player: object) -> Outcome:
        """Have it done by ``player``."""
        try:
            return getattr(player, self.name)(*self.arguments)
        except OSError as error:
            return ("errno", errno.errorcode.get(error.errno or 0, str(error)))


class Player:
    """Does operations below one directory, and holds some files open meanwhile: for writing, since those open for reading only
    show what docs/deviations.md declares."""

    def __init__(self, top: Path) -> None:
        self._top = os.fsencode(top)
        self._held: list[int] = []

    def let_go(self) -> None:
        """Close what is held."""
        while self._held:
            os.close(self._held.pop())

    def _path(self, path: str) -> bytes:
        return os.path.join(self._top, os.fsencode(path))

    def create(self, path: str, mode: int) -> None:
        os.close(os.open(self._path(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def write(self, path: str, data: bytes, offset: int, flags: int) -> int:
        fd = os.open(self._path(path), os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o644)
        try:
            return os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    def read(self, path: str) -> bytes:
        fd = os.open(self._path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return b"" if not stat.S_ISREG(os.fstat(fd).st_mode) else os.read(fd, 1 << 16)
        finally:
            os.close(fd)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._path(path), size)

    def chmod(self, path: str, mode: int) -> None:
        if not os.path.islink(self._path(path)):
            os.chmod(self._path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._path(path), uid, gid)

    def utime(self, path: str, seconds: int) -> None:
        os.utime(self._path(path), ns=(_LONG_AGO_NS, _LONG_AGO_NS + seconds * 10**9 + 123), follow_symlinks=False)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._path(path), mode)

    def mknod(self, path: str, mode: int, device: int) -> None:
        os.mknod(self._path(path), mode, device)

    def symlink(self, path: str, target: str) -> None:
        os.symlink(target, self._path(path))

    def link(self, old: str, new: str) -> None:
        os.link(self._path(old), self._path(new), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(self._path(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self._path(path))

    def rename(self, old: str, new: str, flags: int) -> None:
        renameat2(_AT_FDCWD, self._path(old), _AT_FDCWD, self._path(new), flags)

    def hold(self, path: str, flags: int) -> None:
        self._held.append(os.open(self._path(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o640))
        if len(self._held) > MOST_HELD:
            os.close(self._held.pop(0))

    def _a_held(self, number: int) -> int:
        if not self._held:
            raise OSError(errno.EBADF, "nothing is held")
        fd = self._held[number % len(self._held)]
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "no regular file")
        return fd

    def stat_held(self, number: int) -> tuple[int, ...]:
        st = os.fstat(self._a_held(number))
        return st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size

    def read_held(self, number: int) -> bytes:
        return os.pread(self._a_held(number), 1 << 16, 0)

    def write_held(self, number: int, data: bytes, offset: int) -> int:
        return os.pwrite(self._a_held(number), data, offset)

    def truncate_held(self, number: int, size: int) -> None:
        os.ftruncate(self._a_held(number), size)

    def chmod_held(self, number: int, mode: int) -> None:
        os.fchmod(self._a_held(number), mode)

    def link_held(self, number: int, path: str) -> None:
        os.link(f"/proc/self/fd/{self._a_held(number)}", self._path(path), follow_symlinks=True)

    def copy_held(self, number: int, other: int, offset: int) -> int:
        return os.copy_file_range(self._a_held(number), self._a_held(other), 10_000, 0, offset)

    def listdir(self, path: str) -> tuple[bytes, ...]:
        return tuple(sorted(os.listdir(self._path(path))))

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self._path(path), name, value, flags, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._path(path), name, follow_symlinks=False)

    def remove_tree(self, path: str) -> None:
        """What rm -r does; the way to empty merged directories.

        Not by way of a symbolic link: that might be removed in between, and what is left then goes with the order of listings."""
        parent, name = os.path.split(self._path(path))
        top = os.path.join(os.path.realpath(parent), name)
        if os.path.islink(top):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        for directory, directories, files in os.walk(top, topdown=False):
            for name in files:
                os.unlink(os.path.join(directory, name))
            for name in directories:
                child = os.path.join(directory, name)
                os.unlink(child) if os.path.islink(child) else os.rmdir(child)
        os.rmdir(top)
