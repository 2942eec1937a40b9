"""The layers under check: what the upper holds, directory by directory, and what the lowers have below it.

Directories are merged by the same code that a mount uses, so that the check and the mount agree on what a redirect or an
opaque mark means.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unionfs.linux.links import fd_path
from unionfs.overlay import kinds
from unionfs.overlay.data_layers import DataLayers
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.inode import Directory
from unionfs.overlay.layer import Layer, RealDir, open_lower, open_upper
from unionfs.overlay.listing import LowerName, directory_places, kind_of, merge
from unionfs.overlay.lower_stack import LowerStack
from unionfs.overlay.private_xattrs import HIDES_ALL, PrivateXattrs


class Directories(NamedTuple):
    """What to check: ``lowers`` top first, empty if they are not known; ``data`` the data-only ones; ``work`` as the user
    names it, None if there is none.

    ``userxattr`` as in `unionfs.overlay.options.Options`.
    """

    upper: Path
    work: Path | None = None
    lowers: tuple[Path, ...] = ()
    userxattr: bool = False
    data: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """An object of the upper.

    Attributes:
        name: its name in its directory; empty for the root.
        path: host path, to be shown.
        kind: type, of `unionfs.overlay.kinds`.
        st: stat(2) of it.
        marks: the union's own attributes of it, by what follows the prefix: ``{b"opaque": b"y"}``.
    """

    name: bytes
    path: Path
    kind: int
    st: os.stat_result
    marks: dict[bytes, bytes]

    @property
    def is_xattr_whiteout(self) -> bool:
        """Whether it is an empty regular file that stands for a whiteout."""
        return self.kind == kinds.REG and self.st.st_size == 0 and b"whiteout" in self.marks


@dataclass(slots=True)
class Visited:
    """A directory of the upper.

    Attributes:
        itself: the directory as an object; for the root with an empty name.
        real: the same as a place of a layer.
        directory: what it is merged with.
        objects: what is in it.
        lower_names: what the lowers show below it; empty if they are not known.
        merge_error: why it cannot be told what it is merged with.
    """

    itself: Found
    directory: Directory
    real: RealDir
    objects: list[Found]
    lower_names: dict[bytes, LowerName]
    merge_error: OSError | None = None

    @property
    def is_opaque(self) -> bool:
        """Whether nothing below is merged with it."""
        return self.itself.marks.get(b"opaque") == HIDES_ALL


class CheckedStack:
    """An upper with its work directory and, if they are known, its lowers; all held open."""

    def __init__(self, directories: Directories, writable: bool) -> None:
        """``writable``: false makes the kernel refuse every write to the upper, where it lets us have a mount of our own.

        Raises:
            OSError: a directory cannot be opened.
        """
        self.directories = directories
        self.pool = FdPool()
        self.xattrs = PrivateXattrs(directories.userxattr)
        self._opened = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            opening.callback(self.pool.close)
            self.lowers = [self._open(opening, open_lower(index, path)) for index, path in enumerate(directories.lowers)]
            data = [self._open(opening, open_lower(index, path, "data")) for index, path in enumerate(directories.data)]
            upper = open_upper(directories.upper) if writable else open_lower(0, directories.upper)
            self.upper = self._open(opening, upper)
            self._opened = opening.pop_all()
        self.follows_redirects = not directories.userxattr
        self._data_layers = DataLayers(data, self.pool)
        self.stack = LowerStack(self.lowers, self.pool, self.xattrs, self.follows_redirects)
        self.root = Directory(0, 0, self.upper.root, tuple(layer.root for layer in self.lowers))

    @staticmethod
    def _open(opening: contextlib.ExitStack, layer: Layer) -> Layer:
        opening.callback(layer.close)
        return layer

    def close(self) -> None:
        """Give every descriptor back."""
        self._opened.close()

    # -- the upper --------------------------------------------------------------------------------------------------------

    def visit(self) -> Iterator[Visited]:
        """Every directory of the upper, parents first.  Raises OSError where one cannot be read."""
        upper = self.upper
        root = Found(b"", upper.path, kinds.DIR, os.fstat(upper.root.fd), self.marks(fd_path(upper.root.fd), follow=True))
        pending: list[tuple[Found, Directory, OSError | None]] = [(root, self.root, None)]
        while pending:
            itself, directory, error = pending.pop()
            visited = self._visit(itself, directory, error)
            yield visited
            if self.pool.is_full:
                self.pool.trim()
            for found in visited.objects:
                if found.kind == kinds.DIR:
                    child, error = self._child(visited, found.name)
                    pending.append((found, child, error))

    def _visit(self, itself: Found, directory: Directory, error: OSError | None) -> Visited:
        real = directory.upper
        assert real is not None
        fd = real.open(self.pool)
        objects = []
        for name in sorted(os.listdir(fd_path(fd))):
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            marks = self.marks(b"%s/%s" % (fd_path(fd), name))
            objects.append(Found(name, itself.path / os.fsdecode(name), kind_of(st), st, marks))
        return Visited(itself, directory, real, objects, merge(directory.lowers, self.pool, self.xattrs), error)

    def _child(self, visited: Visited, name: bytes) -> tuple[Directory, OSError | None]:
        below = visited.lower_names.get(name)
        try:
            return self._merged(visited.directory, name, below), None
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # A malformed redirect, of this directory or of one that it is merged with: nobody can tell the lower part.
            return Directory(0, 0, RealDir(self.upper, visited.real, name), ()), error

    def marks(self, path: bytes, follow: bool = False) -> dict[bytes, bytes]:
        """The union's own attributes of an object, by what follows the prefix."""
        try:
            names = os.listxattr(path, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise
        prefix = self.xattrs.prefix
        private = [raw for raw in map(os.fsencode, names) if raw.startswith(prefix) and self.xattrs.is_private(raw)]
        return {raw[len(prefix) :]: os.getxattr(path, raw, follow_symlinks=follow) for raw in private}

    # -- what is merged -----------------------------------------------------------------------------------------------

    def _merged(self, parent: Directory, name: bytes, below: LowerName | None) -> Directory:
        """The upper directory ``name`` of ``parent``; ``below`` is what the lowers show there."""
        assert parent.upper is not None
        real = RealDir(self.upper, parent.upper, name)
        lowers, redirect = self.stack.of_upper(parent, name, real, directory_places(below))
        child = Directory(0, 0, real, lowers)
        child.redirect = redirect
        return child

    def find(self, names: Sequence[bytes]) -> Directory | None:
        """The directory that the union has at a path, given as names from its root; None where there is none.

        Raises:
            OSError: EINVAL: a malformed redirect on the way.
        """
        return self._walk(self.root, names)

    def find_lower(self, names: Sequence[bytes], below: Layer | None = None) -> Directory | None:
        """The same in the union of the lowers alone, or of those under ``below``."""
        lowers = self.lowers[self.lowers.index(below) + 1 :] if below is not None else self.lowers
        return self._walk(Directory(0, 0, None, tuple(layer.root for layer in lowers)), names) if lowers else None

    def _walk(self, directory: Directory, names: Sequence[bytes]) -> Directory | None:
        for name in names:
            child = self._find_child(directory, name)
            if child is None:
                return None
            directory = child
        return directory

    def _find_child(self, parent: Directory, name: bytes) -> Directory | None:
        below = merge(parent.lowers, self.pool, self.xattrs).get(name)
        if parent.upper is not None:
            try:
                st = os.stat(name, dir_fd=parent.upper.open(self.pool), follow_symlinks=False)
            except FileNotFoundError:
                pass
            else:
                return self._merged(parent, name, below) if kind_of(st) == kinds.DIR else None
        places = directory_places(below)
        return Directory(0, 0, None, self.stack.of_lower(parent, name, places)) if places else None

    def has_data(self, path: bytes | None) -> bool:
        """Whether a data-only layer has a regular file at ``path`` (None: nowhere)."""
        if path is None:
            return False
        try:
            self._data_layers.find(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            return False
        return True

    # -- repairs ----------------------------------------------------------------------------------------------------------

    def set_mark(self, real: RealDir, name: bytes, mark: bytes, value: bytes) -> None:
        """Give an object (``name`` in ``real``; empty: ``real`` itself) one of the union's own attributes."""
        path, follow = self._path(real, name)
        os.setxattr(path, self.xattrs.prefix + mark, value, follow_symlinks=follow)

    def remove_mark(self, real: RealDir, name: bytes, mark: bytes) -> None:
        """Take it away."""
        path, follow = self._path(real, name)
        try:
            os.removexattr(path, self.xattrs.prefix + mark, follow_symlinks=follow)
        except OSError as error:
            if error.errno != errno.ENODATA:  # gone already: removed through another name of the file
                raise

    def _path(self, real: RealDir, name: bytes) -> tuple[bytes, bool]:
        fd = real.open(self.pool)
        return (b"%s/%s" % (fd_path(fd), name), False) if name else (fd_path(fd), True)
