"""Copy-up: giving a lower object a place in the upper layer just before its first change.

The order within one copy-up (fs/overlayfs/copy_up.c has the same, for the same reasons): parents first; data before owner,
because a write by an unprivileged process would drop set-id bits and capabilities; owner before mode and xattrs, because chown(2)
drops set-id bits and ``security.capability``; times last; then one rename or link installs it.  A crash before that leaves the
lower object in view, one after it the finished upper one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from unionfs.filesystem import Blocking, StaleAttributes
from unionfs.overlay import kinds, snapshot_origins
from unionfs.overlay.data_copy import DataCopy, InPlaceCopy, Reflinks, Settling, StagedWork
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.fd_pool import close
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import real_name
from unionfs.overlay.metadata_copy import copy_metadata
from unionfs.overlay.options import Fsync
from unionfs.overlay.real_file import open_for_writing, open_lower_file
from unionfs.overlay.tree import Tree
from unionfs.overlay.work_dir import StagedFile

_QUICK = 128 << 10
"""Bytes that are copied faster than two threads change places."""


class CopyUp:
    """Copies objects of one union up."""

    def __init__(self, tree: Tree, fsync: Fsync, metacopy: bool) -> None:
        """``fsync``: what is made durable before it is installed.  ``metacopy``: leave the data of a regular file where it is as
        long as only its metadata changes."""
        self._tree = tree
        self._sync = fsync != "volatile"
        self._is_strict = fsync == "strict"
        self._metacopy = metacopy
        self._reflinks = Reflinks()
        self.count = 0
        self.bytes = 0

    def upper_of(self, directory: Directory) -> RealDir:
        """The real upper directory of ``directory``, copied up now if need be, ancestors first.

        Raises:
            Blocking: with ``fsync=strict``: one of them is being made durable.
            OSError: EROFS without an upper; ENOENT for a directory that was removed; whatever the upper's filesystem says.
        """
        if directory.upper is not None:
            return directory.upper
        chain: list[Directory] = []
        ancestor: Directory | None = directory
        while ancestor is not None and ancestor.upper is None:
            chain.append(ancestor)
            ancestor = ancestor.parent
        if ancestor is None:
            # Asked for the work directory first: for a read-only union that says EROFS.
            self._tree.work  # noqa: B018
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        while chain:
            self._copy_directory(chain.pop())
        assert directory.upper is not None
        return directory.upper

    def copy_up(self, inode: Inode, with_data: bool = True) -> Inode:
        """Make sure that ``inode`` is in the upper layer.

        Returns the inode that stands for the object from now on: another one if the kernel holds the lower file in passthrough.

        Args:
            with_data: false if the caller will empty the file anyway.

        Raises:
            Blocking: its data is being copied.
            OSError: as `upper_of`; ENOSPC, EDQUOT, EIO.
        """
        if inode.is_upper:
            return inode if inode.data is None else self._copy_data_up(inode, with_data)
        if isinstance(inode, Directory):
            self.upper_of(inode)
            return inode
        moved = self._copy_object_up(inode, _Extent.ALL if with_data else _Extent.EMPTY)
        # Somebody else may have begun it, for a change of metadata alone.
        return moved if moved.data is None else self._copy_data_up(moved, with_data)

    def copy_up_metadata(self, inode: Inode) -> Inode:
        """The same for a change that needs no data: with ``metacopy`` that of a regular file stays where it is."""
        if inode.is_upper:
            if inode.copying is not None and not inode.copying.done:
                # The copying puts the file's times back at its end, and would undo a change of them.
                raise Blocking(inode.copying)
            return inode
        if not self._metacopy or inode.kind != kinds.REG or not inode.names or self._tree.stat(inode).st_size == 0:
            return self.copy_up(inode)
        return self._copy_object_up(inode, _Extent.METADATA)

    def copy_up_name(self, inode: Inode, parent: Directory, name: bytes) -> Inode:
        """The same for a change of just this name, which then is in the upper layer: an indexed file may not have it there."""
        inode = self.copy_up_metadata(inode)
        if inode.is_indexed and not self._tree.has_upper(parent, name):
            self._link_up(inode, parent, name)
        return inode

    def _copy_object_up(self, inode: Inode, extent: _Extent) -> Inode:
        lower = self._tree.stat(inode)
        target = self._target_of(inode, lower)
        if inode.kind == kinds.REG:
            upper_fd, copied, extent = self._copy_file(inode, target, lower, extent)
        else:
            upper_fd, copied = -1, self._copy_special(inode, target, lower)
            if self._tree.work.limit is not None:
                self._tree.work.limit.charge(copied.st_blocks * 512)
        self.count += 1
        parent = target.parent if target is not None else None
        if parent is not None and parent.upper_names is not None:
            parent.upper_names[inode.names[0][1]] = real_name(inode.kind, copied.st_ino)
        self._tell_changed(inode)
        if extent is _Extent.METADATA and target is not None:
            moved = self._move_metadata(inode, target, lower)
            os.close(upper_fd)
        else:
            moved = self._move(inode, target, upper_fd)
        moved.has_origin = inode.has_origin
        if target is not None and target.parent is None:
            self._enter_index(moved, target.name, copied)
        elif lower.st_nlink > 1:
            # Of several names of a lower file only this one was copied up: it is another file now, with a number of its own.
            moved.ino = self._tree.inos.shown(copied.st_dev, copied.st_ino)
        elif not moved.has_origin:
            self._tree.copied_up_inos[copied.st_ino] = moved.ino
        return moved

    def _target_of(self, inode: Inode, lower: os.stat_result) -> _Target | None:
        """Where the copy of an object that is no directory is to be; None if it has no name left."""
        tree = self._tree
        if not inode.names:
            tree.work  # noqa: B018
            return None
        parent, name = inode.names[0]
        upper = self.upper_of(parent)
        if inode.links is None or tree.index is None:
            return _Target(upper, name, parent)
        return _Target(tree.index.place, tree.index.entry_of(tree.dir_fd(inode.place), inode.place_name, lower.st_dev), None)

    # -- files with several names -----------------------------------------------------------------------------------------

    def _enter_index(self, inode: Inode, entry: bytes, copied: os.stat_result) -> None:
        """``inode`` was copied up as ``entry`` of the index; the name it is known by comes after that."""
        tree = self._tree
        assert tree.index is not None
        assert inode.links is not None
        tree.index.entered(inode.links, entry)
        tree.nodes.add_hard_link(inode, copied.st_ino)
        self._link_up(inode, *inode.names[0])

    def _link_up(self, inode: Inode, parent: Directory, name: bytes) -> None:
        """Give an indexed file the name in the upper layer by which a lower one has it."""
        tree = self._tree
        index, links = tree.index, inode.links
        assert index is not None
        assert links is not None
        upper = self.upper_of(parent)
        tree.mark_impure(parent)
        self._install(upper, lambda fd: index.link(links, fd, name))
        if parent.upper_names is not None:
            parent.upper_names[name] = real_name(inode.kind, inode.hard_link_ino)
        self._tell_changed(inode)

    # -- directories ------------------------------------------------------------------------------------------------------

    def _copy_directory(self, directory: Directory) -> None:
        tree = self._tree
        parent, name = directory.names[0]
        assert parent.upper is not None
        staged = self._staged_directory(directory)
        try:
            tree.mark_impure(parent)
            self._install(parent.upper, lambda fd: staged.install(fd, name))
        except OSError:
            staged.drop()
            raise
        os.close(staged.fd)
        directory.upper = RealDir(tree.upper_layer, parent.upper, name)
        directory.upper_names = {}
        if parent.upper_names is not None:
            parent.upper_names[name] = real_name(kinds.DIR, staged.made.st_ino)
        self.count += 1
        self._tell_changed(directory)

    def _staged_directory(self, directory: Directory) -> StagedFile:
        """A staged directory that looks like ``directory``."""
        tree = self._tree
        if directory.copying is not None:
            return self._finished(directory.copying, directory)
        st = tree.stat(directory)
        staged = tree.work.make_directory()
        try:
            tree.xattrs.set_origin(staged.fd, tree.origins.of(tree.dir_fd(directory.lowers[0]), b"", st.st_dev), follow=True)
            copy_metadata(tree, directory, staged, st)
        except OSError:
            staged.drop()
            raise
        if self._is_strict:
            directory.copying = Settling(staged, without_data=True)
            raise Blocking(directory.copying)
        return staged

    # -- files ------------------------------------------------------------------------------------------------------------

    def _copy_file(
        self, inode: Inode, target: _Target | None, st: os.stat_result, extent: _Extent
    ) -> tuple[int, os.stat_result, _Extent]:
        """Copy a regular file; the descriptor of the copy, its attributes, and how much it is a copy of."""
        settling = inode.copying
        if isinstance(settling, Settling) and settling.without_data and target is None:
            # It has lost its last name meanwhile, and by what name should it find its data then?
            settling.abandon()
            inode.copying = settling = None
        if isinstance(settling, Settling):
            staged = self._finished(settling, inode)
            extent = _Extent.METADATA if settling.without_data else _Extent.ALL
        else:
            staged = self._staged_copy(inode, target, st, extent)
            if self._is_strict and target is not None:
                inode.copying = Settling(staged, extent is _Extent.METADATA)
                raise Blocking(inode.copying)
        try:
            if target is not None:
                name = target.name
                self._install(target.place, lambda fd: staged.install(fd, name))
            else:
                staged.account()
            return staged.fd, staged.made, extent
        except OSError:
            staged.drop()
            raise

    def _staged_copy(self, inode: Inode, target: _Target | None, st: os.stat_result, extent: _Extent) -> StagedFile:
        """A staged file that is all that the copy shall be."""
        staged = self._staged_file(inode, st.st_size if extent is _Extent.ALL else 0)
        try:
            if extent is _Extent.METADATA:
                os.ftruncate(staged.fd, st.st_size)
                self._tree.xattrs.set_metacopy(staged.fd)
            if target is not None:
                # Before the mode: of a file that is read-only then an unprivileged owner could not set attributes.
                self._set_origin(inode, target, staged.fd, st)
            copy_metadata(self._tree, inode, staged, st)
            return staged
        except OSError:
            staged.drop()
            raise

    def _staged_file(self, inode: Inode, size: int) -> StagedFile:
        """A staged file that holds the data of ``inode``; raises `Blocking` until it does."""
        copying = inode.copying
        if copying is None:
            staged = self._tree.work.make_file()
            if size == 0:
                return staged
            try:
                source_fd = self._source(inode, staged)
            except OSError:
                staged.drop()
                raise
            copying = inode.copying = DataCopy(source_fd, staged, size, self._sync and not self._is_strict, self._reflinks)
        return self._copied(copying, inode, size)

    def _source(self, inode: Inode, staged: StagedFile) -> int:
        """A descriptor of the lower file, whose data ``staged`` has room for."""
        source_fd = open_lower_file(self._tree, inode)
        try:
            staged.reserve(os.fstat(source_fd).st_blocks * 512)
        except OSError:
            os.close(source_fd)
            raise
        return source_fd

    def _copied(self, copying: StagedWork, inode: Inode, size: int) -> StagedFile:
        """What has the ``size`` bytes of data of ``inode`` once ``copying`` is done; raises `Blocking` until then."""
        if not self._sync and size <= _QUICK:
            # Nothing to wait for but memory: another thread would cost more than the copying.
            copying()
        staged = self._finished(copying, inode)
        self.bytes += size
        return staged

    @staticmethod
    def _finished(work: StagedWork, inode: Inode) -> StagedFile:
        """What ``work``, the part of the copy-up of ``inode`` that is under way, has staged; raises `Blocking` until it has."""
        if not work.done:
            raise Blocking(work)
        inode.copying = None
        if work.error is not None:
            work.abandon()
            raise work.error
        return work.staged

    def _copy_data_up(self, inode: Inode, with_data: bool) -> Inode:
        """Give a metadata-only copy in the upper layer its data.

        It is written into the file itself: until the mark is taken away at the end, the data below counts.
        """
        tree = self._tree
        tree.work  # noqa: B018
        size = tree.stat(inode).st_size if with_data else 0
        fd = self._target(inode, size)
        try:
            if size == 0:
                os.ftruncate(fd, 0)
            tree.xattrs.remove_metacopy(fd)
        except OSError:
            os.close(fd)
            raise
        self._tree.notices.append(StaleAttributes(inode.node))
        self.count += 1
        moved = self._succeed(inode) if inode.pins else inode
        close(moved)
        moved.data, moved.redirect, moved.carried = None, b"", 0
        moved.fd, moved.fd_writable = fd, True
        tree.pool.add(moved)
        return moved

    def _target(self, inode: Inode, size: int) -> int:
        """A descriptor of the upper file of a metadata-only copy, with the data in it; raises `Blocking` until it is."""
        tree = self._tree
        copying = inode.copying
        if copying is None:
            fd = open_for_writing(tree, inode)
            if size == 0:
                return fd
            target = StagedFile(tree.work, fd, None)
            try:
                source_fd = self._source(inode, target)
            except OSError:
                target.drop()
                raise
            copying = inode.copying = InPlaceCopy(source_fd, target, size, self._sync, self._reflinks)
        staged = self._copied(copying, inode, size)
        try:
            staged.account(already=staged.made.st_blocks)
        except OSError:
            staged.drop()
            raise
        return staged.fd

    # -- symbolic links, devices, fifos, sockets --------------------------------------------------------------------------

    def _copy_special(self, inode: Inode, target: _Target | None, st: os.stat_result) -> os.stat_result:
        tree, work = self._tree, self._tree.work
        with work.staged(work.new_name()) as staged:
            if inode.kind == kinds.LNK:
                os.symlink(os.readlink(inode.place_name, dir_fd=tree.dir_fd(inode.place)), staged, dir_fd=work.fd)
            else:
                os.mknod(staged, stat.S_IFMT(st.st_mode) | 0o600, st.st_rdev, dir_fd=work.fd)
            path = b"/proc/self/fd/%d/%s" % (work.fd, staged)
            copy_metadata(tree, inode, path, st)
            if target is None:
                inode.orphan_fd = os.open(staged, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
                return os.fstat(inode.orphan_fd)
            self._set_origin(inode, target, path, st)
            copied = os.stat(staged, dir_fd=work.fd, follow_symlinks=False)
            self._install(target.place, lambda fd: os.rename(staged, target.name, src_dir_fd=work.fd, dst_dir_fd=fd))
            return copied

    def _set_origin(self, inode: Inode, target: _Target, copy: bytes | int, st: os.stat_result) -> None:
        """Note on ``copy``, a path or a descriptor, where it comes from.

        Not where that has several names and there is no index: because only one of them moves to the upper.
        """
        tree = self._tree
        if target.parent is not None:
            if st.st_nlink > 1:
                return
            tree.mark_impure(target.parent)
        elif tree.index is not None:
            tree.index.prepare(copy, st.st_nlink)
        value = tree.origins.of(tree.dir_fd(inode.place), inode.place_name, st.st_dev)
        follow = isinstance(copy, int)
        inode.has_origin = tree.xattrs.set_origin(copy, value, follow)
        first = snapshot_origins.first_origin(tree, inode.place, inode.place_name) if inode.has_origin else None
        if first is not None:
            tree.xattrs.set_first_origin(copy, first.value, follow)

    # -- all kinds --------------------------------------------------------------------------------------------------------

    def _tell_changed(self, inode: Inode) -> None:
        """The kernel remembers attributes that a copy-up changes: ctime and blocks.

        It is not told that ctime and size of the real parent change too: for the user nothing has changed there, and the kernel
        would ask for the parent's permissions anew before the next change in it, once for each file of a ``chmod -R``.
        """
        self._tree.notices.append(StaleAttributes(inode.node))

    def _install(self, upper: RealDir, install: Callable[[int], None]) -> None:
        """Run ``install`` on the descriptor of ``upper`` and give that its times back: for the user nothing has changed in it."""
        fd = self._tree.dir_fd(upper)
        before = os.fstat(fd)
        install(fd)
        times = before.st_atime_ns, before.st_mtime_ns
        try:
            os.utime(fd, ns=times)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # The descriptor of a directory that may not be read (O_PATH) is good for paths only.
            os.utime(b"/proc/self/fd/%d" % fd, ns=times)
        upper.layer.hide_change(before, fd)

    def _move(self, inode: Inode, target: _Target | None, upper_fd: int) -> Inode:
        """Let ``inode``, or where that is pinned a new one in its stead, stand for the upper object."""
        tree = self._tree
        moved = self._succeed(inode) if inode.pins else inode
        close(moved)
        moved.data = None  # a metadata-only copy in a lower layer was copied up with its data
        moved.carried = 0
        if target is None:
            moved.place = tree.upper_layer.root  # not where it is, for it has no name: which layer's it is
            if upper_fd >= 0:
                moved.orphan_fd = os.open(b"/proc/self/fd/%d" % upper_fd, os.O_PATH | os.O_CLOEXEC)
        else:
            moved.place, moved.place_name = target.place, target.name
        if upper_fd >= 0:
            moved.fd, moved.fd_writable = upper_fd, True
            tree.pool.add(moved)
        return moved

    def _move_metadata(self, inode: Inode, target: _Target, lower: os.stat_result) -> Inode:
        """Let ``inode`` stand for a metadata-only copy.  Its data does not move, so a pinned one needs no successor."""
        if inode.data is None:
            inode.data = DataPlace(inode.place, inode.place_name, lower.st_blocks)
        inode.place, inode.place_name = target.place, target.name
        return inode

    def _succeed(self, stale: Inode) -> Inode:
        tree = self._tree
        successor = Inode(tree.nodes.new_id(), stale.ino, stale.kind, stale.place, stale.place_name)
        tree.nodes.add(successor)
        successor.has_origin = stale.has_origin
        successor.orphan_fd, stale.orphan_fd = stale.orphan_fd, -1
        for parent, name in list(stale.names):
            tree.nodes.detach(stale, parent, name)
            tree.nodes.attach(successor, parent, name)
        if stale.links is not None:
            tree.nodes.add_lower_links(successor, stale.links)
            stale.links = None
        if stale.hard_link_ino:
            tree.nodes.add_hard_link(successor, stale.hard_link_ino)
            stale.hard_link_ino = 0
        tree.nodes.succeed(stale, successor)
        self._tree.notices.append(StaleAttributes(stale.node))
        return successor


class _Target(NamedTuple):
    """Where a copy gets its name: that of the object in a directory of the upper layer, or one in the index (then without
    ``parent``)."""

    place: RealDir
    name: bytes
    parent: Directory | None


class _Extent(Enum):
    """How much of a regular file is copied up."""

    ALL = "all"
    EMPTY = "empty"
    METADATA = "metadata"
