"""Files that a snapshot must not freeze: those that the kernel may write to without asking.

With passthrough it writes by descriptors that nobody can revoke, and through shared mappings.  So the file itself goes on to
the new upper, under all its names, and a copy stays in the frozen layer.  What has no name that is known but still has one
(it was removed under the others) goes on likewise, since it can be opened for writing by its descriptor.

The copies are made beforehand (`unionfs.overlay.beforehand`) and brought up to date while no request is answered, one after the
other, again as long as one of the files has changed while the others were copied; so at the end they are of one moment, unless
somebody writes without a pause.  Programs that make things durable or change names wait for an answer and thereby pause.  A write
through a mapping moves ctime only at the first write to a page; such a change between two looks is not seen.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from unionfs.overlay.beforehand import Beforehand, State, may_be_written, state_of
from unionfs.overlay.data_copy import Reflinks, copy_data
from unionfs.overlay.data_update import update_data
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import RealDir
from unionfs.overlay.metadata_copy import copy_metadata
from unionfs.overlay.real_file import READ, open_own
from unionfs.overlay.snapshots import CarriedFile, Staged
from unionfs.overlay.tree import Tree

_ATTEMPTS = 8
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _File(NamedTuple):
    """One to be carried on; ``names``: paths from the root of the upper; ``st``: of it before anything was done."""

    inode: Inode
    names: tuple[bytes, ...]
    st: os.stat_result


class Carried:
    """The files that one snapshot carries on."""

    def __init__(self, tree: Tree, staged: Staged, beforehand: Beforehand) -> None:
        """``beforehand``: the copies that were made while requests were still answered."""
        self._tree = tree
        self._beforehand = beforehand
        self._staged = staged
        self.files = list(self._find())
        self.is_consistent = True

    @property
    def directories(self) -> set[bytes]:
        """The directories that the new upper must have for them: paths, without the root."""
        found: set[bytes] = set()
        for file in self.files:
            for name in file.names:
                parent = name.rpartition(b"/")[0]
                while parent:
                    found.add(parent)
                    parent = parent.rpartition(b"/")[0]
        return found

    # -- finding ----------------------------------------------------------------------------------------------------------

    def _find(self) -> Iterator[_File]:
        tree = self._tree
        incomplete: dict[int, tuple[Inode, os.stat_result]] = {}
        for inode in tree.nodes:
            if not may_be_written(tree, inode):
                continue
            st = tree.stat(inode)
            names = tuple(sorted(path_of(parent, name) for parent, name in inode.names if tree.has_upper(parent, name)))
            if st.st_nlink - inode.is_indexed == len(names):
                if names:
                    yield _File(inode, names, st)
            else:
                incomplete[st.st_ino] = inode, st
        if incomplete:
            found = _names_of(tree.upper_layer.root, tree, set(incomplete))
            for ino, (inode, st) in incomplete.items():
                if ino in found:
                    yield _File(inode, tuple(sorted(found[ino])), st)

    # -- the new upper ----------------------------------------------------------------------------------------------------

    def link_into_new_upper(self) -> None:
        """Give each its names in the new upper, whose directories look like the present ones."""
        top = os.open(self._staged.upper, _OPEN_DIR)
        known = set(self._tree.nodes)
        try:
            directories = sorted(self.directories)
            for path in directories:
                self._make_directory(top, path)
            for file in self.files:
                self._link(top, file)
            # Deepest first, and after all that is put into them: the times count.
            for path in reversed(directories):
                self._copy_times(top, path)
        finally:
            os.close(top)
            for inode in reversed(list(self._tree.nodes)):
                if inode not in known and inode.nlookup == 0:
                    self._tree.nodes.release(inode)

    def _make_directory(self, top: int, path: bytes) -> None:
        os.mkdir(path, 0o700, dir_fd=top)
        directory = self._directory(path)
        real = directory.upper
        assert real is not None
        tree = self._tree
        target = b"/proc/self/fd/%d/%s" % (top, path)
        st = tree.stat(directory)
        if tree.xattrs.set_origin(target, tree.origins.of(tree.dir_fd(real), b"", st.st_dev), follow=False):
            self._mark_parent_impure(top, path)
        copy_metadata(tree, directory, target, st)

    def _directory(self, path: bytes) -> Directory:
        directory = self._tree.root
        for name in path.split(b"/"):
            found = self._tree.must_find(directory, name)
            assert isinstance(found, Directory)
            directory = found
        return directory

    def _link(self, top: int, file: _File) -> None:
        source = self._tree.path(file.inode)
        for name in file.names:
            os.link(source, name, dst_dir_fd=top, follow_symlinks=file.inode.orphan_fd >= 0)
            self._mark_parent_impure(top, name)

    def _mark_parent_impure(self, top: int, path: bytes) -> None:
        fd = os.open(path.rpartition(b"/")[0] or b".", _OPEN_DIR, dir_fd=top)
        try:
            self._tree.xattrs.set_impure(fd)
        finally:
            os.close(fd)

    def _copy_times(self, top: int, path: bytes) -> None:
        st = self._tree.stat(self._directory(path))
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=top)

    # -- what stays -------------------------------------------------------------------------------------------------------

    def copy(self) -> None:
        """Make the copies for the frozen layer; `is_consistent` tells whether they are of one moment.

        Raises:
            OSError: ENOSPC and the like.
        """
        self._staged.carry([CarriedFile(str(number), file.names) for number, file in enumerate(self.files)])
        reflinks = Reflinks()
        copied = {number: state for number, file in enumerate(self.files) if (state := self._adopt(number, file)) is not None}
        for _ in range(_ATTEMPTS):
            pending = [number for number, file in enumerate(self.files) if self._state(file) != copied.get(number)]
            if not pending:
                return
            for number in pending:
                copied[number] = self._copy_one(number, reflinks)
        self.is_consistent = all(self._state(file) == copied[number] for number, file in enumerate(self.files))

    def _adopt(self, number: int, file: _File) -> State | None:
        """Put the copy that was made beforehand, if there is one, where the copy is to be; of which state of the file it is."""
        prepared = self._beforehand.take(file.st)
        if prepared is None:
            return None
        path = self._staged.copies / str(number)
        prepared.path.rename(path)
        now = self._state(file)
        # The names in the new upper have moved the ctime since `_File.st`; a write in between has moved the mtime as well.
        if prepared.state is None or prepared.state != state_of(file.st) or prepared.state[:2] != now[:2]:
            return None
        # The metadata may have changed, too, when it was copied; it is here only that it is put on the copy.
        source = open_own(self._tree, file.inode, READ)
        try:
            with path.open("r+b") as target:
                _copy_all_metadata(source, target.fileno(), os.fstat(source))
        finally:
            os.close(source)
        return now

    def inos_of_copies(self) -> dict[bytes, int]:
        """The inode number that the frozen layer will have at each of their names."""
        inos = [(self._staged.copies / str(number)).stat().st_ino for number in range(len(self.files))]
        return {name: ino for file, ino in zip(self.files, inos, strict=True) for name in file.names}

    def _state(self, file: _File) -> State:
        # Since Linux 6.13 a ctime that somebody has looked at is never given twice (multigrain timestamps).
        return state_of(self._tree.stat(file.inode))

    def _copy_one(self, number: int, reflinks: Reflinks) -> State:
        file, path = self.files[number], self._staged.copies / str(number)
        before = self._state(file)
        source = open_own(self._tree, file.inode, READ)
        try:
            is_new = not path.exists()
            target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                st = os.fstat(source)
                (copy_data if is_new else update_data)(source, target, st.st_size, reflinks)
                _copy_all_metadata(source, target, st)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return before


def _copy_all_metadata(source: int, target: int, st: os.stat_result) -> None:
    """Also the union's own attributes: it is the same object of the layer, in another inode."""
    os.fchown(target, st.st_uid, st.st_gid)
    for name in set(os.listxattr(target)) - set(os.listxattr(source)):
        os.removexattr(target, name)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(st.st_mode))
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))


def path_of(parent: Directory, name: bytes) -> bytes:
    """The path of a name from the root of the union, which is that in the upper too."""
    names = [name]
    directory = parent
    while directory.parent is not None:
        names.append(directory.name)
        directory = directory.parent
    return b"/".join(reversed(names))


def _names_of(root: RealDir, tree: Tree, inos: set[int]) -> dict[int, list[bytes]]:
    """All names that the upper has of files with these numbers."""
    found: dict[int, list[bytes]] = {}
    pending = [(b"", root)]
    while pending:
        path, real = pending.pop()
        with os.scandir(b"/proc/self/fd/%d" % tree.dir_fd(real)) as entries:
            for entry in entries:
                below = path + b"/" + entry.name if path else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append((below, RealDir(real.layer, real, entry.name)))
                elif entry.inode() in inos:
                    found.setdefault(entry.inode(), []).append(below)
    return found
