"""Several snapshots that lie upon each other become one layer.

What that must hold is worked out from the two views, with the snapshots and without: a name that only the lower view has needs a
whiteout; a directory is opaque, or has a redirect, where it is not merged with what lies below its name.  So nothing is left of
what one of them had and another took away.  Files are linked, not copied: they keep their inodes, which origins and the index of
hard links mean.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unionfs.overlay import kinds
from unionfs.overlay.data_copy import Reflinks, copy_data, looks_as_before
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Stack
from unionfs.overlay.layer_diff import is_same_place, real_key
from unionfs.overlay.options import Options
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.real_file import open_lower_file
from unionfs.overlay.snapshots import Snapshots, Staged
from unionfs.overlay.tree import Tree

# No right, no such thing on this filesystem, or forbidden to the process (seccomp).
_CANNOT_MAKE = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def merge_snapshots(snapshots: Snapshots, numbers: Sequence[int], *, is_user: bool) -> int:
    """Merge the snapshots ``numbers``, the topmost first; the number of the one that takes their place.

    First that is made, then everything that was built on them is put on it instead, one after the other, each in one step; last
    they are removed.  After a crash `Snapshots.recover` does the rest.

    Raises:
        OSError: a layer cannot be read, or the new one not be made.
    """
    lowers = [Path(lower) for lower in snapshots.get(numbers[0]).about.lowers]
    merged = prepare_merge(snapshots, numbers, lowers, is_user=is_user, sync=True)
    try:
        merged.link()
        merged.staged.publish(sync=True)
    except OSError:
        merged.staged.discard()
        raise
    snapshots.finish_merge(snapshots.get(merged.staged.number))
    return merged.staged.number


def prepare_merge(snapshots: Snapshots, numbers: Sequence[int], lowers: Sequence[Path], *, is_user: bool, sync: bool) -> Merged:
    """Make the layer that takes the place of the snapshots ``numbers``, the topmost first, over ``lowers`` (those below all
    snapshots), but for the files that are linked into it.  ``sync``: what is made is durable.

    Raises:
        OSError: as `merge_snapshots`; nothing is left of it then.
    """
    top, bottom = snapshots.get(numbers[0]), snapshots.get(numbers[-1])
    staged = snapshots.stage(f"{top.about.name} merged", lowers)
    assert staged.about is not None
    try:
        rest = (*snapshots.layers(bottom.below), *lowers)
        merged = _fill(staged, (*snapshots.layers(numbers), *rest), rest, Options(userxattr=is_user))
        if sync:
            for path in merged.copies:
                _sync(path)
        snapshots.set_below(staged.upper, bottom.below)
        staged.about = dataclasses.replace(top.about, replaces=list(numbers))
    except BaseException:
        staged.discard()
        raise
    return merged


class Merged(NamedTuple):
    """A merged layer that lacks only the files that it has in common with those that it is made of.

    They come last, and at once: as long as two layers have a file, its link count is wrong.
    """

    staged: Staged
    copies: list[bytes]
    links: list[tuple[bytes, bytes]]
    times: list[tuple[bytes, int, int]]
    left_out: frozenset[int]
    """The inode numbers of what they have and it will not have; they may be those of other objects soon."""

    def link(self) -> None:
        """Put them into it.

        Raises:
            OSError: what link(2) gives.
        """
        for source, target in self.links:
            os.link(source, target, follow_symlinks=False)
        for path, atime, mtime in self.times:
            os.utime(path, ns=(atime, mtime))


def _fill(staged: Staged, layers: Sequence[Path], rest: Sequence[Path], options: Options) -> Merged:
    whole = Tree(Stack(tuple(layers)), options)
    try:
        below = Tree(Stack(tuple(rest)), options)
        try:
            return _Merge(staged, whole, below, len(layers) - len(rest)).run()
        finally:
            below.close()
    finally:
        whole.close()


class _Merge:
    """Fills the directory of a staged snapshot; ``whole`` is the view with the ``count`` topmost layers, ``below`` without."""

    def __init__(self, staged: Staged, whole: Tree, below: Tree, count: int) -> None:
        self._staged = staged
        self._top = staged.upper
        self._whole = whole
        self._below = below
        self._merged = set(whole.lowers[:count])
        self._xattrs: PrivateXattrs = whole.xattrs
        self._paths: dict[tuple[tuple[str, str], ...], tuple[bytes, Directory]] | None = None
        self._links: list[tuple[bytes, bytes]] = []
        self._times: list[tuple[bytes, int, int]] = []
        self._copies: dict[tuple[int, int], bytes] = {}
        self._has_devices = True

    def run(self) -> Merged:
        """Fill it."""
        waiting: list[tuple[bytes, Directory, Directory | None]] = [(b".", self._whole.root, self._below.root)]
        made: list[tuple[bytes, Directory]] = []
        while waiting:
            for tree in (self._whole, self._below):
                if tree.pool.is_full:
                    tree.pool.trim()
            path, directory, below = waiting.pop()
            made.append((path, directory))
            for name in self._whole.names(directory):
                self._put(path, directory, below, name, waiting)
            for name in self._below.names(below) if below is not None else ():
                if self._whole.kind(directory, name) is None:
                    self._hide(path, name)
        for path, directory in reversed(made):
            self._look_like(path, directory)
        return Merged(self._staged, list(self._copies.values()), self._links, self._times, self._left_out())

    def _left_out(self) -> frozenset[int]:
        """The inode numbers of what the layers have and the merged one has not: all directories, and files that are hidden."""
        found: set[int] = set()
        for layer in self._merged:
            waiting: list[str | Path] = [layer.path]
            while waiting:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        found.add(entry.inode())
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
        return frozenset(found.difference(os.lstat(source).st_ino for source, _ in self._links))

    def _hide(self, path: bytes, name: bytes) -> None:
        """Put a whiteout: a device, or else a file with an attribute, which every filesystem can hold that has snapshots."""
        target = self._path(path + b"/" + name)
        if self._has_devices:
            try:
                os.mknod(target, stat.S_IFCHR, kinds.WHITEOUT_RDEV)
                return
            except OSError as error:
                if error.errno not in _CANNOT_MAKE:
                    raise
                self._has_devices = False
        with contextlib.closing(_Opened(self._path(path))) as opened:
            self._xattrs.announce_whiteouts(opened.fd)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._xattrs.make_whiteout(target)

    def _path(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self._top), path)

    def _put(
        self,
        path: bytes,
        directory: Directory,
        below: Directory | None,
        name: bytes,
        waiting: list[tuple[bytes, Directory, Directory | None]],
    ) -> None:
        inode = self._whole.must_find(directory, name)
        found = self._below.find(below, name) if below is not None else None
        if found is not None and is_same_place(inode, found[0]):
            return
        target = path + b"/" + name
        if not isinstance(inode, Directory):
            self._put_file(inode, target)
            return
        os.mkdir(self._path(target), 0o700)
        waiting.append((target, inode, self._merge_with(inode, found[0] if found is not None else None, target)))

    def _merge_with(self, directory: Directory, by_name: Inode | None, target: bytes) -> Directory | None:
        """What a directory is merged with below, having said so on ``target`` where its name alone does not."""
        wanted = tuple(real_key(real) for real in directory.lowers if real.layer not in self._merged)
        if isinstance(by_name, Directory) and wanted == _reals(by_name):
            return by_name
        if not wanted:
            if isinstance(by_name, Directory):
                self._xattrs.make_opaque(self._path(target))
            return None
        path, below = self._find_below(wanted, target)
        self._xattrs.set_redirect(self._path(target), path)
        return below

    def _find_below(self, wanted: tuple[tuple[str, str], ...], target: bytes) -> tuple[bytes, Directory]:
        if self._paths is None:
            self._paths = {}
            waiting: list[tuple[bytes, Directory]] = [(b"", self._below.root)]
            while waiting:
                path, directory = waiting.pop()
                self._paths[_reals(directory)] = path, directory
                for name in self._below.names(directory):
                    if self._below.kind(directory, name) == kinds.DIR:
                        child = self._below.must_find(directory, name)
                        assert isinstance(child, Directory)
                        waiting.append((path + b"/" + name, child))
        if wanted not in self._paths:
            raise OSError(errno.EXDEV, "a directory is merged with what no single redirect leads to", os.fsdecode(target))
        return self._paths[wanted]

    # -- what is put there ------------------------------------------------------------------------------------------------

    def _put_file(self, inode: Inode, target: bytes) -> None:
        path = self._path(target)
        if inode.place.layer in self._merged:
            # Through the path of the layer: a link cannot be made across the private mount that the tree reads it by.
            own = os.fsencode(inode.place.path() / os.fsdecode(inode.place_name))
            if inode.data is not None:
                self._complete(inode, own)
            self._links.append((own, path))
            return
        if inode.kind != kinds.REG:
            raise OSError(errno.EXDEV, "what is below shows elsewhere, and can only be linked", os.fsdecode(target))
        st = self._whole.stat(inode)
        known = self._copies.get((st.st_dev, st.st_ino))
        if known is not None:
            os.link(known, path)
            return
        source = open_lower_file(self._whole, inode)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                copy_data(source, fd, os.fstat(source).st_size, Reflinks())
            finally:
                os.close(fd)
        finally:
            os.close(source)
        self._copy_metadata(self._whole.path(inode), path, st)
        self._copy_origins(self._whole.path(inode), path)
        self._copies[st.st_dev, st.st_ino] = path

    def _complete(self, inode: Inode, path: bytes) -> None:
        """Give a metadata-only copy of a merged layer its data.  There, before it is linked: it stays the file that it is, and
        whoever else looks at its layer, before, after or meanwhile, sees the same."""
        source = open_lower_file(self._whole, inode)
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                before = os.fstat(fd)
                with looks_as_before(fd, before):
                    copy_data(source, fd, before.st_size, Reflinks())
                os.fsync(fd)  # as long as the mark is there, nobody reads what may be missing after a power cut
                self._xattrs.remove_metacopy(fd)
            finally:
                os.close(fd)
        finally:
            os.close(source)
        inode.data = None

    def _look_like(self, path: bytes, directory: Directory) -> None:
        real = self._whole.path(directory)
        if any(real.impure for real in directory.lowers if real.layer in self._merged):
            with contextlib.closing(_Opened(self._path(path))) as opened:
                self._xattrs.set_impure(opened.fd)
        st = self._whole.stat(directory)
        self._copy_metadata(real, self._path(path), st)
        self._times.append((self._path(path), st.st_atime_ns, st.st_mtime_ns))

    def _copy_origins(self, source: bytes, target: bytes) -> None:
        """Whose inode number it shows; and whether it stands for all names of that."""
        origin, first, nlink = self._xattrs.origin(source), self._xattrs.first_origin(source), self._xattrs.nlink(source)
        if origin:
            self._xattrs.set_origin(target, origin, follow=False)
        if first:
            self._xattrs.set_first_origin(target, first, follow=False)
        if nlink:
            self._xattrs.set_nlink(target, nlink)

    def _copy_metadata(self, source: bytes, target: bytes, st: os.stat_result) -> None:
        os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
        for name in os.listxattr(source, follow_symlinks=False):
            if not self._xattrs.is_private(os.fsencode(name)):
                os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        os.chmod(target, stat.S_IMODE(st.st_mode))
        os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))


def _sync(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Opened:
    """A directory that is open until `close`."""

    def __init__(self, path: bytes) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)


def _reals(directory: Directory) -> tuple[tuple[str, str], ...]:
    return tuple(real_key(real) for real in directory.lowers)
