"""Taking names away: unlink and rmdir."""

from __future__ import annotations

import errno
import os
from types import TracebackType

from unionfs.filesystem import StaleAttributes
from unionfs.journal.storage import WHOLE
from unionfs.linux.links import fd_path
from unionfs.overlay import kinds
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.fd_pool import close
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.listing import DOT_WHITEOUT, WHITEOUT
from unionfs.overlay.tree import Tree

_OPEN_ORPHAN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Removal:
    """Removes objects of one union; what lower layers have under the name is hidden by a whiteout."""

    def __init__(self, tree: Tree, copy_up: CopyUp) -> None:
        self._tree = tree
        self._copy_up = copy_up

    def unlink(self, parent: Directory, name: bytes) -> None:
        """Remove a name that is not a directory's."""
        tree, whiteouts = self._tree, self._tree.whiteouts
        kind = self._kind(parent, name)
        if kind == kinds.DIR:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        child = self._known(parent, name)
        upper = self._copy_up.upper_of(parent)
        with KeptReachable(tree, child, parent, name):
            intend_removal(tree, child)
            if tree.has_lower(parent, name):
                whiteouts.hide(upper, name)
            else:
                os.unlink(name, dir_fd=tree.dir_fd(upper))
        self._leave(parent, name, child)

    def _known(self, parent: Directory, name: bytes) -> Inode | None:
        """The inode of ``name``, if it matters to anybody that this name goes.

        One of several names of a lower file is copied up first: the count of the others is kept on the upper file.
        """
        tree = self._tree
        child = parent.children.get(name)
        if tree.index is None:
            return child
        child = child or tree.must_find(parent, name)
        return child if child.links is None else self._copy_up.copy_up_name(child, parent, name)

    def rmdir(self, parent: Directory, name: bytes) -> None:
        """Remove an empty directory: one that shows nothing, though its upper part may hold whiteouts."""
        tree, whiteouts = self._tree, self._tree.whiteouts
        if self._kind(parent, name) != kinds.DIR:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        directory = tree.must_find(parent, name)
        assert isinstance(directory, Directory)
        if tree.names(directory):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        upper = self._copy_up.upper_of(parent)
        with KeptReachable(tree, directory, parent, name):
            intend_removal(tree, directory)
            if not tree.has_lower(parent, name):
                self._remove_upper(directory, tree.dir_fd(upper), name)
            elif directory.upper is not None:
                whiteouts.hide_directory(upper, name)
            else:
                whiteouts.hide(upper, name)
        self._leave(parent, name, directory)

    def _remove_upper(self, directory: Directory, upper_fd: int, name: bytes) -> None:
        work = self._tree.work
        if not directory.upper_names:
            try:
                os.rmdir(name, dir_fd=upper_fd)
                return
            except OSError as error:
                # It may hold what is never shown, as .wh..wh..opq is.
                if error.errno != errno.ENOTEMPTY or not self._holds_only_dot_names(directory):
                    raise
        with work.staged(work.new_name()) as staged:
            os.rename(name, staged, src_dir_fd=upper_fd, dst_dir_fd=work.fd)

    def _holds_only_dot_names(self, directory: Directory) -> bool:
        assert directory.upper is not None
        # By the path in /proc: on Btrfs a descriptor lists only what was there when it was opened.
        return all(name.startswith(DOT_WHITEOUT) for name in os.listdir(fd_path(self._tree.dir_fd(directory.upper))))

    def _kind(self, parent: Directory, name: bytes) -> int:
        kind = self._tree.kind(parent, name)
        if kind is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return kind

    def _leave(self, parent: Directory, name: bytes, child: Inode | None) -> None:
        names = parent.upper_names
        assert names is not None
        if self._tree.has_lower(parent, name):
            names[name] = WHITEOUT
        else:
            del names[name]
        if child is not None:
            forget_name(self._tree, child, parent, name)


class KeptReachable:
    """Within, ``name`` of ``inode`` goes: the kernel may go on using an object that has no name, so get hold of it before.

    A lower object stays where it is, an indexed one in the index as long as it has other names; nothing needs to be done for
    them.  If the name stays after all (an error), the inode is as it was.
    """

    # Not made by contextlib: that took a quarter of the time of an unlink.

    __slots__ = ("_inode", "_place", "_place_name", "_took_fd")

    def __init__(self, tree: Tree, inode: Inode | None, parent: Directory, name: bytes) -> None:
        """Get hold of it.

        Raises:
            OSError: what open(2) gives.
        """
        if inode is None or not inode.is_upper or inode.orphan_fd >= 0:
            self._inode: Inode | None = None
            return
        self._inode = inode
        self._place, self._place_name = inode.place, inode.place_name
        self._took_fd = False
        if inode.is_indexed:
            assert tree.index is not None
            inode.orphan_fd = tree.index.open_last(inode)
            return
        other = None if isinstance(inode, Directory) else inode.another_name(parent, name)
        if other is not None:
            other_parent, inode.place_name = other
            assert other_parent.upper is not None
            inode.place = other_parent.upper
        elif inode.has_own_fd:
            # What it is read and written by does as well, and is there.
            inode.orphan_fd, inode.fd = inode.fd, -1
            self._took_fd = True
        else:
            inode.orphan_fd = os.open(name, _OPEN_ORPHAN, dir_fd=tree.dir_fd(inode.place))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        inode = self._inode
        if kind is None or inode is None:
            return
        inode.place, inode.place_name = self._place, self._place_name
        if self._took_fd:
            # Its place in the clock of the pool is still there.
            inode.orphan_fd, inode.fd = -1, inode.orphan_fd
        elif inode.orphan_fd >= 0:
            os.close(inode.orphan_fd)
            inode.orphan_fd = -1


def intend_removal(tree: Tree, inode: Inode | None) -> None:
    """Call when a name of ``inode``, which is kept reachable, is about to go."""
    journal = tree.journal
    if inode is None or not journal.is_kept or not is_last_name(inode):
        journal.intend(WHOLE)
    elif inode.is_indexed:
        # Once it has no name any more the index lets go of it, too.
        journal.intend_with((), inode.write_unnamed)
    else:
        journal.intend_with((inode,), inode.write_unnamed)


def is_last_name(inode: Inode) -> bool:
    """Whether the kernel knows ``inode`` and, once one of its names has gone, has it without any."""
    rare = inode.rare
    return inode.nlookup > 0 if rare is None else inode.is_held and not rare.other_names


def tell_successor(tree: Tree, inode: Inode) -> None:
    """Call when a name of ``inode`` has gone or moved: the kernel may know it by that as the node that ``inode`` stands for, and
    changes what it remembers of that one only."""
    if inode.rare is not None and inode.predecessor is not None:
        tree.notices.append(StaleAttributes(inode.node))


def forget_name(tree: Tree, inode: Inode, parent: Directory, name: bytes) -> None:
    """Call when ``name`` of ``inode`` has gone."""
    tree.nodes.detach(inode, parent, name)
    tell_successor(tree, inode)
    if isinstance(inode, Directory):
        for real in (inode.upper, *inode.lowers):
            if real is not None:
                close(real)
        inode.upper_names, inode.lower_names = {}, {}
    if tree.index is not None:
        tree.index.drop_if_unnamed(inode)
    if inode.nlookup <= 0:
        tree.nodes.release(inode)
