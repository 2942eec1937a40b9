"""Copy-up: giving a lower object a place in the upper layer just before its first change.

Parents first; then a copy is made ready out of sight (`copy_staging`), and one rename or link installs it.  A crash before that
leaves the lower object in view, one after it the finished upper one.
"""

from __future__ import annotations

import errno
import os

from unionfs.filesystem import Blocking, StaleAttributes
from unionfs.overlay import indexed_copy, kinds, succession
from unionfs.overlay.copy_staging import CopyStaging, Extent, copy_special
from unionfs.overlay.copy_target import Target, install
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import real_name
from unionfs.overlay.options import Fsync
from unionfs.overlay.tree import Tree


class CopyUp:
    """Copies objects of one union up."""

    def __init__(self, tree: Tree, fsync: Fsync, metacopy: bool) -> None:
        """``fsync``: what is made durable before it is installed.  ``metacopy``: leave the data of a regular file where it is as
        long as only its metadata changes."""
        self._tree = tree
        self._staging = CopyStaging(tree, fsync)
        self._metacopy = metacopy
        self.count = 0

    @property
    def copied_bytes(self) -> int:
        """How many of data were copied so far."""
        return self._staging.bytes

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
        moved = self._copy_object_up(inode, Extent.ALL if with_data else Extent.EMPTY)
        # Somebody else may have begun it, for a change of metadata alone.
        return moved if moved.data is None else self._copy_data_up(moved, with_data)

    def copy_up_metadata(self, inode: Inode) -> Inode:
        """The same for a change that needs no data: with ``metacopy`` that of a regular file stays where it is."""
        if inode.is_upper:
            if inode.copying is not None and not inode.copying.done:
                # The copying puts the file's times back at its end, and would undo a change of them.
                raise Blocking(inode.copying, lane=inode.copying.lane)
            if inode.is_indexed:
                assert self._tree.index is not None
                self._tree.index.settle(inode.links)
            return inode
        if not self._metacopy or inode.kind != kinds.REG or not inode.names or self._tree.stat(inode).st_size == 0:
            return self.copy_up(inode)
        return self._copy_object_up(inode, Extent.METADATA)

    def copy_up_name(self, inode: Inode, parent: Directory, name: bytes) -> Inode:
        """The same for a change of just this name, which then is in the upper layer: an indexed file may not have it there."""
        inode = self.copy_up_metadata(inode)
        if inode.is_indexed and not self._tree.has_upper(parent, name):
            self._link_up(inode, parent, name)
        return inode

    def _link_up(self, inode: Inode, parent: Directory, name: bytes) -> None:
        indexed_copy.link_up(self._tree, inode, parent, name, self.upper_of(parent))
        self._tell_changed(inode)

    def _tell_changed(self, inode: Inode) -> None:
        """The kernel remembers attributes that a copy-up changes: ctime and blocks.

        It is not told that ctime and size of the real parent change too: for the user nothing has changed there, and the kernel
        would ask for the parent's permissions anew before the next change in it, once for each file of a ``chmod -R``.
        """
        self._tree.notices.append(StaleAttributes(inode.node))

    # -- directories ------------------------------------------------------------------------------------------------------

    def _copy_directory(self, directory: Directory) -> None:
        tree = self._tree
        parent, name = directory.names[0]
        assert parent.upper is not None
        staged = self._staging.directory(directory)
        try:
            tree.mark_impure(parent)
            install(tree, parent, parent.upper, lambda fd: staged.install(fd, name))
        except OSError:
            staged.drop()
            raise
        os.close(staged.fd)
        directory.upper = RealDir(tree.upper_layer, parent.upper, name)
        directory.upper_names = {}
        tree.show_ino(staged.made.st_ino, 0)  # it may have belonged to a copied-up file that is gone
        if parent.upper_names is not None:
            parent.upper_names[name] = real_name(kinds.DIR, staged.made.st_ino)
        self.count += 1
        self._tell_changed(directory)

    # -- everything else --------------------------------------------------------------------------------------------------

    def _copy_object_up(self, inode: Inode, extent: Extent) -> Inode:
        try:
            return self._make_and_install(inode, extent)
        except OSError:
            copying = inode.copying
            if copying is not None and copying.done and copying.error is not None:
                # Else whoever tries again would be told of this one's error.
                copying.abandon()
                inode.copying = None
            raise

    def _make_and_install(self, inode: Inode, extent: Extent) -> Inode:
        lower = self._tree.stat(inode)
        target = self._target_of(inode, lower)
        if inode.kind == kinds.REG:
            upper_fd, copied, extent = self._copy_file(inode, target, lower, extent)
        else:
            upper_fd, copied = -1, copy_special(self._tree, inode, target, lower)
            if self._tree.work.limit is not None:
                self._tree.work.limit.charge(copied.st_blocks * 512)
        self.count += 1
        parent = target.parent if target is not None else None
        if parent is not None and parent.upper_names is not None:
            parent.upper_names[inode.names[0][1]] = real_name(inode.kind, copied.st_ino)
        self._tell_changed(inode)
        if extent is Extent.METADATA and target is not None:
            moved = succession.move_metadata(inode, target, lower)
            os.close(upper_fd)
        else:
            moved = succession.move(self._tree, inode, target, upper_fd)
        if target is not None and target.parent is None:
            indexed_copy.enter(self._tree, moved, target.name, copied)
            self._link_up(moved, *moved.names[0])
        elif lower.st_nlink > 1:
            # Of several names of a lower file only this one was copied up: it is another file now, with a number of its own.
            self._tree.nodes.numbers.give_up(moved)
            moved.ino = self._tree.inos.shown(copied.st_dev, copied.st_ino)
        # The number may have belonged to a copied-up file that is gone.
        has_own = moved.has_origin or lower.st_nlink > 1 or (target is not None and target.parent is None)
        self._tree.show_ino(copied.st_ino, 0 if has_own else moved.ino)
        return moved

    def _target_of(self, inode: Inode, lower: os.stat_result) -> Target | None:
        """Where the copy of an object that is no directory is to be; None if it has no name left."""
        tree = self._tree
        if not inode.names:
            tree.work  # noqa: B018
            return None
        parent, name = inode.names[0]
        upper = self.upper_of(parent)
        if inode.links is None or tree.index is None:
            return Target(upper, name, parent)
        return indexed_copy.target_in(tree.index, tree, inode, lower)

    def _copy_file(
        self, inode: Inode, target: Target | None, st: os.stat_result, extent: Extent
    ) -> tuple[int, os.stat_result, Extent]:
        """Copy a regular file; the descriptor of the copy, its attributes, and how much it is a copy of."""
        staged, extent = self._staging.file(inode, target, st, extent)
        try:
            if target is not None:
                name = target.name
                install(self._tree, target.parent, target.place, lambda fd: staged.install(fd, name))
            else:
                staged.account()
            return staged.fd, staged.made, extent
        except OSError:
            staged.drop()
            raise

    def _copy_data_up(self, inode: Inode, with_data: bool) -> Inode:
        """Give a metadata-only copy in the upper layer its data."""
        tree = self._tree
        tree.work  # noqa: B018
        size = tree.stat(inode).st_size if with_data else 0
        fd = self._staging.data_in_place(inode, size)
        try:
            if size == 0:
                os.ftruncate(fd, 0)
            tree.xattrs.remove_metacopy(fd)
        except OSError:
            os.close(fd)
            raise
        tree.notices.append(StaleAttributes(inode.node))
        self.count += 1
        moved = succession.move_data(tree, inode, fd)
        moved.redirect = b""
        return moved
