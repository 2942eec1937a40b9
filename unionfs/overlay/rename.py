"""Renaming, with RENAME_NOREPLACE and RENAME_EXCHANGE.

The rules are those of ``ovl_rename`` (fs/overlayfs/dir.c): what moves is copied up and then moved by one renameat2 within the
upper layer.  A directory that has anything in a lower layer takes a redirect along, which tells where that is; without
redirect_dir it does not move (EXDEV: mv(1) copies it).
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass

from unionfs.journal import records
from unionfs.journal.journal import Finished, Write
from unionfs.journal.storage import WHOLE
from unionfs.linux.rename import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2
from unionfs.overlay import kinds
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.fd_pool import close
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.listing import DOT_WHITEOUT, WHITEOUT, RealName, ino_in, kind_in
from unionfs.overlay.lower_stack import redirect_for
from unionfs.overlay.metadata_copy import copy_metadata
from unionfs.overlay.removal import KeptReachable, forget_name, is_last_name, tell_successor
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


@dataclass(slots=True)
class _Side:
    """One of the two names of a rename."""

    parent: Directory
    name: bytes
    inode: Inode | None
    """What the name leads to; None: nothing."""


class Rename:
    """Renames objects of one union."""

    def __init__(self, tree: Tree, copy_up: CopyUp, redirects: bool) -> None:
        """``redirects``: whether directories with lower parts may move (``redirect_dir=on``)."""
        self._tree = tree
        self._copy_up = copy_up
        self._redirects = redirects

    def rename(self, parent: Directory, name: bytes, new_parent: Directory, new_name: bytes, flags: int) -> None:
        """See `unionfs.filesystem.Filesystem.rename`."""
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._tree.work  # noqa: B018  EROFS comes before all else
        old = _Side(parent, name, self._tree.must_find(parent, name))
        new = self._target(new_parent, new_name)
        if new.inode is not None and flags & RENAME_NOREPLACE:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if flags & RENAME_EXCHANGE:
            self._exchange(old, new)
        elif old.inode is not new.inode:
            self._replace(old, new)
        elif (old.parent, old.name) != (new.parent, new.name):
            # Two names of one file: rename(2) says that nothing happens.
            self._copy_up.copy_up_name(self._present(old), old.parent, old.name)

    def _target(self, parent: Directory, name: bytes) -> _Side:
        if parent.orphan_fd >= 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if name.startswith(DOT_WHITEOUT):
            raise OSError(errno.EINVAL, "names that begin with .wh. are whiteouts")
        found = self._tree.find(parent, name)
        return _Side(parent, name, found[0] if found else None)

    @staticmethod
    def _present(side: _Side) -> Inode:
        if side.inode is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return side.inode

    # -- replacing --------------------------------------------------------------------------------------------------------

    def _replace(self, old: _Side, new: _Side) -> None:
        tree, whiteouts = self._tree, self._tree.whiteouts
        inode = self._movable(old)
        self._check_replaceable(inode, new.inode)
        old_fd = tree.dir_fd(self._copy_up.upper_of(old.parent))
        new_fd = tree.dir_fd(self._copy_up.upper_of(new.parent))
        old.inode = inode = self._copy_up.copy_up_name(inode, old.parent, old.name)
        if new.inode is not None and new.inode.links is not None:
            # Its other names stay, and their count is kept on the upper file.
            new.inode = self._copy_up.copy_up_name(new.inode, new.parent, new.name)
        leaves_whiteout = tree.has_lower(old.parent, old.name)
        is_directory = isinstance(inode, Directory)
        self._mark_moving(inode, old, new)
        if isinstance(new.inode, Directory):
            self._empty(new.inode, new_fd, new.name)
        with KeptReachable(tree, new.inode, new.parent, new.name):
            self._intend(old, new)
            over_whiteout = tree.has_whiteout(new.parent, new.name)
            if (over_whiteout or leaves_whiteout) and whiteouts.form != "dev":
                assert old.parent.upper is not None
                assert new.parent.upper is not None
                whiteouts.move_without_exchange(
                    old.parent.upper, old.name, new.parent.upper, new.name, leaves_whiteout, over_whiteout
                )
            elif over_whiteout and (is_directory or leaves_whiteout):
                # The whiteout that is in the way moves to the old name: it is wanted there, or can be removed there.
                renameat2(old_fd, old.name, new_fd, new.name, RENAME_EXCHANGE)
                leaves_whiteout = leaves_whiteout or not self._is_removed(old_fd, old.name)
            elif leaves_whiteout:
                self._replace_leaving_whiteout(old, new)
            else:
                os.rename(old.name, new.name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
            if isinstance(new.inode, Directory) and not whiteouts.has_opaque_xattr:
                whiteouts.tidy_beside(new_fd, new.name)
        if new.inode is not None:
            forget_name(tree, new.inode, new.parent, new.name)
        self._move(old, new, inode)
        self._set_upper_name(old, WHITEOUT if leaves_whiteout else None)

    def _replace_leaving_whiteout(self, old: _Side, new: _Side) -> None:
        tree, whiteouts = self._tree, self._tree.whiteouts
        old_upper, new_upper = old.parent.upper, new.parent.upper
        assert old_upper is not None
        assert new_upper is not None
        old_fd, new_fd = tree.dir_fd(old_upper), tree.dir_fd(new_upper)
        try:
            renameat2(old_fd, old.name, new_fd, new.name, RENAME_WHITEOUT)
            return
        except OSError as error:
            # Not every filesystem can, and not every user may.
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP):
                raise
        # Without it in two steps, neither of which shows anything that is not so: first what is at the new name moves to the old
        # one …
        if new.inode is None or (isinstance(new.inode, Directory) and new.inode.upper is None):
            whiteouts.hide(new_upper, new.name)
        renameat2(old_fd, old.name, new_fd, new.name, RENAME_EXCHANGE)
        # … then a whiteout takes its place.
        if isinstance(new.inode, Directory):
            whiteouts.hide_directory(old_upper, old.name)
        else:
            whiteouts.hide(old_upper, old.name)

    @staticmethod
    def _is_removed(dir_fd: int, whiteout: bytes) -> bool:
        """Remove a whiteout that hides nothing.  The rename is done by then: where it cannot be removed it stays."""
        try:
            os.unlink(whiteout, dir_fd=dir_fd)
        except OSError as error:
            _log.warning("could not remove the whiteout %s, which hides nothing: %s", os.fsdecode(whiteout), error)
            return False
        return True

    def _check_replaceable(self, inode: Inode, target: Inode | None) -> None:
        if target is None:
            return
        if isinstance(inode, Directory):
            if not isinstance(target, Directory):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if self._tree.names(target):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        elif isinstance(target, Directory):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _empty(self, directory: Directory, parent_fd: int, name: bytes) -> None:
        """Put a really empty, opaque directory in the place of one that shows nothing but holds whiteouts: rename(2) wants it
        so."""
        work, whiteouts = self._tree.work, self._tree.whiteouts
        if directory.upper is None or (not directory.upper_names and whiteouts.has_opaque_xattr):
            return
        with work.staged(work.new_name()) as staged:
            os.mkdir(staged, 0o700, dir_fd=work.fd)
            path = b"/proc/self/fd/%d/%s" % (work.fd, staged)
            # A crash after the exchange leaves this one in view, so it must look like the one it replaces.
            copy_metadata(self._tree, directory, path, self._tree.stat(directory))
            if whiteouts.has_opaque_xattr:
                whiteouts.make_opaque(path)
            else:
                # The mark of an opaque directory would be a file in it.  This one goes when the directory was replaced.
                whiteouts.put_beside(parent_fd, name)
            renameat2(work.fd, staged, parent_fd, name, RENAME_EXCHANGE)
        close(directory.upper)
        directory.upper_names, directory.lower_names = {}, {}

    # -- exchanging -------------------------------------------------------------------------------------------------------

    def _exchange(self, old: _Side, new: _Side) -> None:
        tree = self._tree
        if new.inode is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if old.inode is new.inode:
            return
        one, other = self._movable(old), self._movable(new)
        old_fd = tree.dir_fd(self._copy_up.upper_of(old.parent))
        new_fd = tree.dir_fd(self._copy_up.upper_of(new.parent))
        old.inode = one = self._copy_up.copy_up_name(one, old.parent, old.name)
        new.inode = other = self._copy_up.copy_up_name(other, new.parent, new.name)
        for inode, target in ((one, new), (other, old)):
            self._mark_moving(inode, new if target is old else old, target)
        self._intend(old, new, exchange=True)
        renameat2(old_fd, old.name, new_fd, new.name, RENAME_EXCHANGE)
        tree.nodes.detach(one, old.parent, old.name)
        tree.nodes.detach(other, new.parent, new.name)
        self._arrive(one, new.parent, new.name)
        self._arrive(other, old.parent, old.name)
        assert old.parent.upper_names is not None
        assert new.parent.upper_names is not None
        mine, theirs = old.parent.upper_names[old.name], new.parent.upper_names[new.name]
        old.parent.upper_names[old.name], new.parent.upper_names[new.name] = theirs, mine

    # -- the common part --------------------------------------------------------------------------------------------------

    def _intend(self, old: _Side, new: _Side, exchange: bool = False) -> None:
        journal, inode, names = self._tree.journal, old.inode, old.parent.upper_names
        if not journal.is_kept:
            return
        if new.inode is None and not self._tree.has_upper(new.parent, new.name):
            # That something is there tells that it has come, and nothing but its name has changed then.
            journal.intend(WHOLE)
            return
        assert inode is not None
        assert names is not None
        ino, replaced = ino_in(names[old.name]), new.inode
        covered: tuple[Inode, ...] = ()
        if exchange or inode.rare is not None:
            after: Write = Finished(records.moved(ino)).write
        else:
            covered = (inode,)

            def after(window: memoryview, at: int) -> int:
                return records.write_moved_node(window, at, ino, inode.node, inode.nlookup, new.parent.node, new.name)

        if exchange or replaced is None or not is_last_name(replaced):
            journal.intend_with(covered, after)
            return
        if not replaced.is_indexed:
            covered = (*covered, replaced)
        journal.intend_with(covered, after, replaced.write_unnamed)

    def _movable(self, side: _Side) -> Inode:
        inode = self._present(side)
        if isinstance(inode, Directory) and inode.lowers and not self._redirects:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return inode

    def _mark_moving(self, inode: Inode, source: _Side, target: _Side) -> None:
        """Write on what is about to move, and on its new parent, what a lookup must know of it at its new place."""
        tree = self._tree
        if inode.has_origin or inode.data is not None:
            tree.mark_impure(target.parent)
        if not isinstance(inode, Directory):
            if inode.data is not None:
                # With several names it must be a path: under which of them the file is found then does not matter.
                self._redirect(inode, source.parent is target.parent and not inode.hard_link_ino)
        elif inode.lowers:
            tree.mark_impure(target.parent)
            self._redirect(inode, source.parent is target.parent)
        elif tree.has_lower(target.parent, target.name):
            self._make_opaque(inode)

    def _make_opaque(self, directory: Directory) -> None:
        """Mark a directory without lower parts opaque, because it is to move over something."""
        tree = self._tree
        tree.load(directory)
        assert directory.upper is not None
        assert directory.upper_names is not None
        if directory.upper.has_xattr_whiteouts:
            # Once the directory is opaque these would be listed as files.  They hide nothing.
            for name in [name for name, real in directory.upper_names.items() if kind_in(real) == kinds.WHT]:
                os.unlink(name, dir_fd=tree.dir_fd(directory.upper))
                del directory.upper_names[name]
        tree.whiteouts.make_opaque(tree.path(directory))

    def _redirect(self, inode: Inode, same_parent: bool) -> None:
        redirect = redirect_for(inode, same_parent)
        if redirect:
            self._tree.xattrs.set_redirect(self._tree.path(inode), redirect)
            inode.redirect = redirect

    def _move(self, old: _Side, new: _Side, inode: Inode) -> None:
        assert old.parent.upper_names is not None
        self._tree.nodes.detach(inode, old.parent, old.name)
        self._arrive(inode, new.parent, new.name)
        self._set_upper_name(new, old.parent.upper_names[old.name])

    def _arrive(self, inode: Inode, parent: Directory, name: bytes) -> None:
        """``inode``, just detached, is now ``name``; so is its real object in the upper layer."""
        upper = parent.upper
        assert upper is not None
        if not inode.is_indexed:
            inode.place, inode.place_name = upper, name
        if isinstance(inode, Directory) and inode.upper is not None:
            inode.upper.parent, inode.upper.name = upper, name
        self._tree.nodes.attach(inode, parent, name)
        tell_successor(self._tree, inode)

    def _set_upper_name(self, side: _Side, real: RealName | None) -> None:
        names = side.parent.upper_names
        assert names is not None
        if real is None:
            del names[side.name]
        else:
            names[side.name] = real
            if real is not WHITEOUT:
                self._tree.listed(side.parent, side.name)
