"""Flags of chattr(1) of the union's files and directories."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from unionfs.filesystem import ExtendedFlags
from unionfs.linux import inode_flags
from unionfs.overlay import kinds
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.real_file import read_fd
from unionfs.overlay.tree import Tree

T = TypeVar("T")

# OverlayFS keeps these two off the upper object, in the attribute ``protattr``, and has its own inode refuse changes.  The inode
# of a FUSE mount knows of no flags: its page cache would take writes that the real file then refuses.
_PROTECTING_FLAGS = inode_flags.FS_IMMUTABLE_FL | inode_flags.FS_APPEND_FL
_PROTECTING_XFLAGS = inode_flags.FS_XFLAG_IMMUTABLE | inode_flags.FS_XFLAG_APPEND


def _opened_by_path(path: int | bytes, _follow: bool, get: Callable[[int], T]) -> T:
    assert isinstance(path, bytes)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return get(fd)
    finally:
        os.close(fd)


class InodeFlags:
    """Reads and sets the flags of one union's objects.  Errors as `unionfs.filesystem.Filesystem.get_flags` says."""

    def __init__(self, tree: Tree, copy_up: CopyUp) -> None:
        self._tree = tree
        self._copy_up = copy_up

    def get(self, inode: Inode) -> int:
        """``FS_*_FL`` bits."""
        return self._get(inode, inode_flags.get_flags)

    def set(self, inode: Inode, flags: int) -> None:
        """Replace them, after a copy-up if need be."""
        with self._opened(self._prepare(inode, flags & _PROTECTING_FLAGS)) as fd:
            inode_flags.set_flags(fd, flags)

    def get_extended(self, inode: Inode) -> ExtendedFlags:
        """What FS_IOC_FSGETXATTR tells."""
        return ExtendedFlags(*self._get(inode, inode_flags.get_fsxattr))

    def _get(self, inode: Inode, get: Callable[[int], T]) -> T:
        real = inode.top if isinstance(inode, Directory) else inode.place
        if real.layer.remote is not None and inode.kind in (kinds.DIR, kinds.REG):
            found: T = self._tree.ask(inode, _opened_by_path, get)
            return found
        with self._opened(inode) as fd:
            return get(fd)

    def set_extended(self, inode: Inode, flags: ExtendedFlags) -> None:
        """FS_IOC_FSSETXATTR, after a copy-up if need be."""
        with self._opened(self._prepare(inode, flags.xflags & _PROTECTING_XFLAGS)) as fd:
            inode_flags.set_fsxattr(fd, flags)

    def _prepare(self, inode: Inode, protecting: int) -> Inode:
        if protecting:
            raise OSError(errno.EOPNOTSUPP, "the flags immutable and append-only cannot be set through a union")
        return self._copy_up.copy_up(inode)

    @contextlib.contextmanager
    def _opened(self, inode: Inode) -> Iterator[int]:
        """A descriptor of the real object that ioctl(2) takes: one of O_PATH will not do."""
        if isinstance(inode, Directory):
            # One that was removed has a link in /proc for a path.
            no_follow = 0 if inode.orphan_fd >= 0 else os.O_NOFOLLOW
            fd = os.open(self._tree.path(inode), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | no_follow)
            try:
                yield fd
            finally:
                os.close(fd)
        elif inode.kind == kinds.REG:
            yield read_fd(self._tree, inode)
        else:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
