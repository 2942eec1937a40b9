"""Random operations on a tree, as values that can be replayed on any mount.

Names are few and paths short, so that operations meet each other: most of the interesting cases of a union are about something
being made, moved or removed where something else was.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2

_MOST_HELD = 4
NAMES = ("a", "b", "c", "d")
_AT_FDCWD = -100
_LONG_AGO_NS = 1_000_000_000 * 10**9

Outcome = Any
"""What an operation gave: a value that must be the same on every mount, or ``("errno", number)``."""


@dataclass(frozen=True)
class Operation:
    """One step: ``name`` is a method of `Player`."""

    name: str
    arguments: tuple[Any, ...]

    def play(self, player: Player) -> Outcome:
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
        if len(self._held) > _MOST_HELD:
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
        """What rm -r does; the way to empty merged directories."""
        top = self._path(path)
        for directory, directories, files in os.walk(top, topdown=False):
            for name in files:
                os.unlink(os.path.join(directory, name))
            for name in directories:
                child = os.path.join(directory, name)
                os.unlink(child) if os.path.islink(child) else os.rmdir(child)
        os.rmdir(top)


def _paths() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


def _modes() -> st.SearchStrategy[int]:
    return st.sampled_from((0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000))


def _operation(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
    return st.builds(Operation, st.just(name), st.tuples(*arguments))


def _kinds() -> st.SearchStrategy[int]:
    return st.sampled_from((stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)).map(lambda kind: kind | 0o640)


def operations() -> st.SearchStrategy[Operation]:
    """Any operation; those that move and remove names are drawn more often."""
    paths, xattrs = _paths(), st.sampled_from(("user.one", "user.two", "trusted.three", "trusted.overlay.four"))
    data, held, sizes = st.binary(min_size=1, max_size=20), st.integers(0, _MOST_HELD - 1), st.sampled_from((0, 2, 9000))
    renames = _operation("rename", paths, paths, st.sampled_from((0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE)))
    removals: tuple[Callable[[], st.SearchStrategy[Operation]], ...] = (
        lambda: _operation("unlink", paths),
        lambda: _operation("rmdir", paths),
        lambda: _operation("remove_tree", paths),
    )
    return st.one_of(
        renames,
        renames,
        *(removal() for removal in removals),
        _operation("create", paths, _modes()),
        _operation("mkdir", paths, _modes().map(lambda mode: mode | 0o700)),
        _operation(
            "write", paths, data, st.sampled_from((0, 3, 5000)), st.sampled_from((0, os.O_TRUNC, os.O_APPEND, os.O_CREAT))
        ),
        _operation("read", paths),
        _operation("truncate", paths, sizes),
        _operation("hold", paths, st.sampled_from((0, 0, os.O_CREAT, os.O_TRUNC, os.O_APPEND))),
        _operation("stat_held", held),
        _operation("read_held", held),
        _operation("write_held", held, data, st.sampled_from((0, 3, 5000))),
        _operation("truncate_held", held, sizes),
        _operation("chmod_held", held, _modes()),
        _operation("link_held", held, paths),
        _operation("copy_held", held, held, st.sampled_from((20_000, 30_000))),
        _operation("chmod", paths, _modes()),
        _operation("chown", paths, st.sampled_from((0, 1234)), st.sampled_from((0, 4321))),
        _operation("utime", paths, st.integers(0, 1000)),
        _operation("mknod", paths, _kinds(), st.sampled_from((0, os.makedev(1, 3)))),
        _operation("symlink", paths, _paths()),
        _operation("link", paths, paths),
        _operation("listdir", paths),
        _operation("setxattr", paths, xattrs, data, st.sampled_from((0, os.XATTR_CREATE, os.XATTR_REPLACE))),
        _operation("removexattr", paths, xattrs),
    )
