"""Making new objects: create, mkdir, mknod, symlink, link, tmpfile."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable

from unionfs.filesystem import Caller
from unionfs.journal.storage import IN_PLACE, WHOLE
from unionfs.linux.links import fd_path, link_fd
from unionfs.overlay import kinds
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import DOT_WHITEOUT, RealName, kind_of, real_name
from unionfs.overlay.lower_stack import redirect_for
from unionfs.overlay.ownership import own_new, owner_of_new
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")

Make = Callable[[int, bytes], os.stat_result | None]
"""Makes an object in an open directory under a name; its attributes, if they can be had for less than looking the name up."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_UNNAMED = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class Creation:
    """Makes objects in the upper layer of one union.

    Where nothing is in the way an object is made in its place, so that the filesystem itself applies umask, default ACL and
    S_ISGID of the parent.  Over a whiteout it is made in the work directory and renamed over it, so that what the whiteout hides
    never comes into view; and so is what must first be given to somebody else, so that it never shows as ours, but for regular
    files: those have no name until they are given, where the filesystem can (O_TMPFILE).
    """

    def __init__(self, tree: Tree, copy_up: CopyUp) -> None:
        self._tree = tree
        self._copy_up = copy_up
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._ids = os.geteuid(), os.getegid()
        self._has_tmpfile = True

    def create(self, parent: Directory, name: bytes, mode: int, caller: Caller) -> tuple[Inode, os.stat_result]:
        """Make a regular file; its descriptor is kept for the writes that follow."""
        given = self._create_given(parent, name, mode, caller)
        return self._create_here(parent, name, mode, caller) if given is None else given

    def _create_given(self, parent: Directory, name: bytes, mode: int, caller: Caller) -> tuple[Inode, os.stat_result] | None:
        """One that must be given to somebody else has no name before it is; None where another way must be gone."""
        tree = self._tree
        if not self._has_tmpfile or not self._must_be_given(caller):
            return None
        self._check_free(parent, name)
        if tree.has_whiteout(parent, name):
            return None
        upper = self._copy_up.upper_of(parent)
        self._take_umask(caller)
        upper_fd = tree.dir_fd(upper)
        try:
            fd = os.open(b".", _CREATE_UNNAMED, stat.S_IMODE(mode), dir_fd=upper_fd)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            self._has_tmpfile = False
            return None
        try:
            st = own_new(tree, parent, upper_fd, fd_path(fd), caller, upper_fd, os.fstat(fd), follow=True, looks=False)
            tree.journal.intend(WHOLE)
            link_fd(fd, upper_fd, name)
        except OSError:
            os.close(fd)
            raise
        inode, _ = self._enter_new(parent, upper, name, st)
        inode.fd, inode.fd_writable = fd, True
        tree.pool.add(inode)
        # Last: it is there, whether its attributes can be had or not.
        return inode, tree.stat(inode)

    def _create_here(self, parent: Directory, name: bytes, mode: int, caller: Caller) -> tuple[Inode, os.stat_result]:
        tree = self._tree
        made = -1

        def make(dir_fd: int, final_name: bytes) -> os.stat_result | None:
            nonlocal made
            made = os.open(final_name, _CREATE, stat.S_IMODE(mode), dir_fd=dir_fd)
            try:
                return os.fstat(made)
            except OSError:
                return None  # asked for once more by name, where what was made is taken back after an error

        try:
            inode, st = self._make(parent, name, make, caller, stat.S_IFREG | mode)
        except OSError:
            if made >= 0:
                os.close(made)
            raise
        inode.fd, inode.fd_writable = made, True
        tree.pool.add(inode)
        return inode, st

    def tmpfile(self, parent: Directory, mode: int, caller: Caller) -> tuple[Inode, os.stat_result]:
        """Make a regular file without a name; `link` can give it one."""
        tree = self._tree
        upper = self._copy_up.upper_of(parent)
        self._take_umask(caller)
        upper_fd = tree.dir_fd(upper)
        fd = os.open(b".", _CREATE_UNNAMED, stat.S_IMODE(mode), dir_fd=upper_fd)
        try:
            st = own_new(tree, parent, upper_fd, fd_path(fd), caller, upper_fd, follow=True)
            orphan_fd = os.open(fd_path(fd), os.O_PATH | os.O_CLOEXEC)
        except OSError:
            os.close(fd)
            raise
        inode = self._new_inode(upper, b"", st)
        inode.orphan_fd = orphan_fd
        inode.fd, inode.fd_writable = fd, True
        tree.pool.add(inode)
        return inode, st

    def mknod(self, parent: Directory, name: bytes, mode: int, rdev: int, caller: Caller) -> tuple[Inode, os.stat_result]:
        """Make a regular file, fifo, socket or device.  EPERM for what would be a whiteout."""
        if stat.S_ISCHR(mode) and rdev == kinds.WHITEOUT_RDEV:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return self._make(parent, name, lambda dir_fd, made: os.mknod(made, mode, rdev, dir_fd=dir_fd), caller, mode)

    def symlink(self, parent: Directory, name: bytes, target: bytes, caller: Caller) -> tuple[Inode, os.stat_result]:
        """Make a symbolic link."""
        return self._make(parent, name, lambda dir_fd, made: os.symlink(target, made, dir_fd=dir_fd), caller, stat.S_IFLNK)

    def mkdir(self, parent: Directory, name: bytes, mode: int, caller: Caller) -> tuple[Inode, os.stat_result]:
        """Make a directory; an opaque one where lower layers have something of that name."""
        return self._make(parent, name, lambda dir_fd, made: os.mkdir(made, mode, dir_fd=dir_fd), caller, stat.S_IFDIR | mode)

    def link(self, inode: Inode, parent: Directory, name: bytes) -> tuple[Inode, os.stat_result]:
        """Give ``inode`` one more name; returns the inode that stands for it from now on."""
        tree = self._tree
        if inode.kind == kinds.DIR:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self._check_free(parent, name)
        upper = self._copy_up.upper_of(parent)
        inode = self._copy_up.copy_up_metadata(inode)
        if inode.data is not None and inode.names:
            self._redirect(inode)
        orphan_fd = inode.orphan_fd
        source_fd = tree.dir_fd(inode.place) if orphan_fd < 0 else -1

        def make(dir_fd: int, made: bytes) -> None:
            if orphan_fd >= 0:
                link_fd(orphan_fd, dir_fd, made)
            else:
                os.link(inode.place_name, made, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)

        if inode.has_origin or inode.data is not None:
            tree.mark_impure(parent)
        ino = inode.hard_link_ino or tree.stat(inode).st_ino
        tree.journal.intend(WHOLE)
        if tree.has_whiteout(parent, name):
            with tree.work.staged(tree.work.new_name()) as staged:
                make(tree.work.fd, staged)
                tree.whiteouts.replace(tree.work.fd, staged, upper, name)
        else:
            make(tree.dir_fd(upper), name)
        if orphan_fd >= 0:
            tree.adopt(inode, upper, name)
        if not inode.hard_link_ino:
            tree.nodes.add_hard_link(inode, ino)
        self._enter(parent, name, real_name(inode.kind, ino))
        tree.nodes.attach(inode, parent, name)
        # Last: the name is there, whether its attributes can be had or not.
        return inode, tree.stat(inode)

    def _redirect(self, inode: Inode) -> None:
        """A metadata-only copy with several names finds its data by a path, which is good under all of them."""
        redirect = redirect_for(inode, same_parent=False)
        if redirect:
            self._tree.xattrs.set_redirect(self._tree.path(inode), redirect)
            inode.redirect = redirect

    # -- the common part --------------------------------------------------------------------------------------------------

    def _make(self, parent: Directory, name: bytes, make: Make, caller: Caller, mode: int) -> tuple[Inode, os.stat_result]:
        tree = self._tree
        self._check_free(parent, name)
        upper = self._copy_up.upper_of(parent)
        self._take_umask(caller)
        upper_fd = tree.dir_fd(upper)
        if tree.has_whiteout(parent, name) or self._must_be_given(caller):
            tree.journal.intend(WHOLE)
            st = self._make_aside(parent, upper, name, make, caller, mode)
            inode, _ = self._enter_new(parent, upper, name, st)
            # The rename was one more change.  Last: it is there, whether its attributes can be had or not.
            return inode, tree.stat(inode)
        tree.journal.intend(IN_PLACE)
        found = make(upper_fd, name)
        try:
            st = own_new(tree, parent, upper_fd, name, caller, upper_fd, found)
        except OSError:
            self._take_back(parent, name, upper_fd, stat.S_IFMT(mode))
            raise
        return self._enter_new(parent, upper, name, st)

    def _must_be_given(self, caller: Caller) -> bool:
        """Whether what is made is not the caller's from the beginning."""
        return self._tree.has_overrides or owner_of_new(self._tree, caller) != self._ids

    def _take_back(self, parent: Directory, name: bytes, upper_fd: int, type_: int) -> None:
        """Remove what was just made.  Where that cannot be done it is there, and the union must not say otherwise."""
        try:
            _remove(name, upper_fd, type_ == stat.S_IFDIR)
        except OSError as error:
            _log.warning("could not take back %s, which was not made in full: %s", os.fsdecode(name), error)
            self._enter(parent, name, real_name(type_ >> 12, 0))

    def _take_umask(self, caller: Caller) -> None:
        # The umask of the caller becomes ours for the call, and the filesystem leaves it out where there is a default ACL.
        if caller.umask != self._umask:
            os.umask(caller.umask)
            self._umask = caller.umask

    def _make_aside(
        self, parent: Directory, upper: RealDir, name: bytes, make: Make, caller: Caller, mode: int
    ) -> os.stat_result:
        """The attributes are those of before the rename."""
        work, whiteouts, upper_fd = self._tree.work, self._tree.whiteouts, self._tree.dir_fd(upper)
        staged, is_left = work.new_name(), True
        try:
            with work.cradle(upper_fd) as cradle_fd:
                st = own_new(self._tree, parent, cradle_fd, staged, caller, upper_fd, make(cradle_fd, staged), looks=False)
                if self._tree.has_whiteout(parent, name):
                    is_directory = stat.S_ISDIR(mode)
                    if is_directory:
                        whiteouts.make_opaque(b"/proc/self/fd/%d/%s" % (cradle_fd, staged))
                    whiteouts.replace(cradle_fd, staged, upper, name, is_directory)
                else:
                    os.rename(staged, name, src_dir_fd=cradle_fd, dst_dir_fd=upper_fd)
                    is_left = False
        finally:
            if is_left:
                work.remove(staged)
        return st

    def _check_free(self, parent: Directory, name: bytes) -> None:
        tree = self._tree
        if parent.orphan_fd >= 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if name.startswith(DOT_WHITEOUT):
            # It would be read as a whiteout (fuse-overlayfs reserves these names in the same way).
            raise OSError(errno.EINVAL, "names that begin with .wh. are whiteouts")
        if tree.kind(parent, name) is not None:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _enter_new(self, parent: Directory, upper: RealDir, name: bytes, st: os.stat_result) -> tuple[Inode, os.stat_result]:
        tree = self._tree
        inode: Inode
        if stat.S_ISDIR(st.st_mode):
            tree.show_ino(st.st_ino, 0)
            inode = directory = tree.new_directory(RealDir(tree.upper_layer, upper, name), (), st)
            directory.upper_names, directory.lower_names = {}, {}
        else:
            inode = self._new_inode(upper, name, st)
        self._enter(parent, name, real_name(inode.kind, st.st_ino))
        tree.nodes.attach(inode, parent, name)
        return inode, st

    def _enter(self, parent: Directory, name: bytes, real: RealName) -> None:
        assert parent.upper_names is not None
        parent.upper_names[name] = real
        self._tree.listed(parent, name)

    def _new_inode(self, upper: RealDir, name: bytes, st: os.stat_result) -> Inode:
        # The number may have belonged to a copied-up file that is gone.
        self._tree.show_ino(st.st_ino, 0)
        return self._tree.new_upper_inode(upper, name, kind_of(st), st)


def _remove(name: bytes, dir_fd: int, is_directory: bool) -> None:
    (os.rmdir if is_directory else os.unlink)(name, dir_fd=dir_fd)
