"""Attributes of inodes, extended ones included."""

from __future__ import annotations

import errno
import os

from unionfs.filesystem import (
    ROOT_ID,
    SET_ATIME,
    SET_ATIME_NOW,
    SET_GID,
    SET_KILL_SUIDGID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    Attr,
    Changes,
    Forgettable,
)
from unionfs.journal.storage import WHOLE
from unionfs.linux.statx import birth_time
from unionfs.linux.times import NOW, set_times
from unionfs.overlay import kinds, ownership
from unionfs.overlay.contents import Contents
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.id_map import ACL_PREFIX
from unionfs.overlay.inode import INO_SHIFT, Directory, Inode
from unionfs.overlay.tree import Tree

_SECOND = 10**9
_BLKSIZE = 4096
_BUT_KILL_SUIDGID = SET_MODE | SET_UID | SET_GID | SET_SIZE | SET_ATIME | SET_MTIME
_TRUSTED = b"trusted."
new_tuple = tuple.__new__
"""Makes a named tuple of a tuple, in a quarter of the time that its class takes for arguments."""


def attr_of(tree: Tree, inode: Inode, st: os.stat_result) -> Attr:
    """What the union shows of ``inode`` whose real object has the attributes ``st``.

    Raises:
        OSError: EINVAL: the owner that a layer keeps in an extended attribute is malformed.
    """
    nlink, ctime = st.st_nlink, st.st_ctime_ns
    if inode.kind == kinds.DIR:
        if isinstance(inode, Directory) and inode.orphan_fd < 0:
            ctime = inode.top.layer.shown_ctime_ns(st)
        if inode.orphan_fd >= 0 or (inode.parent is None and inode.node != ROOT_ID):
            nlink = 0
        elif tree.static_nlink or (isinstance(inode, Directory) and inode.is_merged):
            # Counting the subdirectories would mean reading all of it; 1 tells find(1) and others that it is not counted (as
            # OverlayFS).
            nlink = 1
    elif inode.parent is None and inode.orphan_fd < 0 and not inode.is_indexed:
        nlink = 0  # a lower file that was removed here
    elif inode.rare is not None and inode.rare.links is not None:
        nlink += inode.rare.links.offset
    atime, mtime = st.st_atime_ns, st.st_mtime_ns
    if tree.ids is None:
        mode, uid, gid, rdev = st.st_mode, st.st_uid, st.st_gid, st.st_rdev
    else:
        uid, gid, mode, rdev, _ = ownership.shown(tree, inode, st)
    return new_tuple(
        Attr,
        (
            inode.packed >> INO_SHIFT,
            st.st_size,
            st.st_blocks if inode.rare is None or inode.rare.data is None else inode.rare.data.blocks,
            atime // _SECOND,
            mtime // _SECOND,
            ctime // _SECOND,
            atime % _SECOND,
            mtime % _SECOND,
            ctime % _SECOND,
            mode,
            nlink,
            uid,
            gid,
            rdev & 0xFFFFFFFF,
            _BLKSIZE,
            0,
        ),
    )


def _getxattr(target: int | bytes, follow: bool, name: bytes) -> bytes:
    return os.getxattr(target, name, follow_symlinks=follow)


def _listxattr(target: int | bytes, follow: bool) -> list[str]:
    return os.listxattr(target, follow_symlinks=follow)


def _birth_time(target: int | bytes, follow: bool) -> int | None:
    return birth_time(b"/proc/self/fd/%d" % target if isinstance(target, int) else target, follow_symlinks=follow)


class Attributes:
    """Changes attributes of one union's objects."""

    def __init__(self, tree: Tree, copy_up: CopyUp, contents: Contents, has_xattrs: bool = True) -> None:
        """``has_xattrs``: false: there are no extended attributes for users."""
        self._has_xattrs = has_xattrs
        self._tree = tree
        self._copy_up = copy_up
        self._contents = contents

    def setattr(self, inode: Inode, changes: Changes) -> Attr:
        """See `unionfs.filesystem.Filesystem.setattr`."""
        valid, asked = changes.valid, inode
        inode = self._contents.truncate(inode, changes.size) if valid & SET_SIZE else self._copy_up.copy_up_metadata(inode)
        # Owner before mode: chown(2) drops set-id bits, and a mode that is set along with it must stay.  Where nothing is to be
        # set it is a chown(2) that names nobody, which moves ctime on all filesystems of the kernel.
        if valid & (SET_UID | SET_GID) or not valid & _BUT_KILL_SUIDGID:
            self._chown(inode, changes)
        if valid & SET_MODE and inode.kind != kinds.LNK:
            ownership.chmod(self._tree, inode, changes.mode)
        elif valid & SET_KILL_SUIDGID and inode.kind == kinds.REG:
            self._contents.kill_suidgid(inode)
        if valid & (SET_ATIME | SET_MTIME):
            self._utime(inode, changes)
        if inode is asked and (inode.rare is None or inode.predecessor is None):
            self._forget_notices(inode.node)
        return attr_of(self._tree, inode, self._tree.stat(inode))

    def _forget_notices(self, node: int) -> None:
        """The reply has the attributes; a notice after it would make the kernel ask for them."""
        notices = self._tree.notices
        if notices:
            notices[:] = [notice for notice in notices if isinstance(notice, Forgettable) or notice.node != node]

    def birth_time(self, inode: Inode) -> int | None:
        """See `unionfs.filesystem.Filesystem.birth_time`."""
        return self._tree.ask(inode, _birth_time)

    def _chown(self, inode: Inode, changes: Changes) -> None:
        uid = changes.uid if changes.valid & SET_UID else -1
        gid = changes.gid if changes.valid & SET_GID else -1
        ownership.chown(self._tree, inode, uid, gid)

    def _utime(self, inode: Inode, changes: Changes) -> None:
        valid = changes.valid
        atime: int | str | None = None
        mtime: int | str | None = None
        if valid & SET_ATIME:
            atime = NOW if valid & SET_ATIME_NOW else changes.atime_ns
        if valid & SET_MTIME:
            mtime = NOW if valid & SET_MTIME_NOW else changes.mtime_ns
        target, follow = self._tree.target(inode)
        set_times(target, atime, mtime, follow)

    # -- extended attributes ------------------------------------------------------------------------------------------------

    def getxattr(self, inode: Inode, name: bytes) -> bytes:
        """Value of an extended attribute."""
        stored = self._stored_name(inode, name)
        if stored is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        value = self._tree.ask(inode, _getxattr, stored)
        ids = self._tree.ids
        if ids is None or not name.startswith(ACL_PREFIX):
            return value
        return ids.shown_acl(ownership.stored_acl(self._tree, inode, value))

    def setxattr(self, inode: Inode, name: bytes, value: bytes, flags: int) -> None:
        """Set one, after a copy-up if need be."""
        self._writable_name(inode, name)
        inode = self._copy_up.copy_up_metadata(inode)
        ids = self._tree.ids
        if ids is not None and name.startswith(ACL_PREFIX):
            value = ids.stored_acl(value)
        # Asked for again: the layer may be another one now.
        stored = self._writable_name(inode, name)
        target, follow = self._tree.target(inode)
        if flags & os.XATTR_CREATE and not _has_xattr(target, stored, follow):
            self._tree.journal.intend(WHOLE)
        os.setxattr(target, stored, value, flags, follow_symlinks=follow)

    def listxattr(self, inode: Inode, privileged: bool) -> list[bytes]:
        """The names; ``trusted.`` ones only for the privileged, as the kernel's own filesystems do."""
        self._check_has_xattrs()
        names = self._tree.ask(inode, _listxattr)
        shown = self._tree.xattrs.shown_names(map(os.fsencode, names))
        if self._tree.has_overrides:
            shown = ownership.shown_xattrs(self._tree, inode, shown)
        return shown if privileged else [name for name in shown if not name.startswith(_TRUSTED)]

    def removexattr(self, inode: Inode, name: bytes) -> None:
        """Remove one; an object that has it not is not copied up for it."""
        stored = self._writable_name(inode, name)
        if not inode.is_upper:
            self._tree.ask(inode, _getxattr, stored)
            inode = self._copy_up.copy_up_metadata(inode)
            stored = self._writable_name(inode, name)
        target, follow = self._tree.target(inode)
        if _has_xattr(target, stored, follow):
            self._tree.journal.intend(WHOLE)
        os.removexattr(target, stored, follow_symlinks=follow)

    def _stored_name(self, inode: Inode, name: bytes) -> bytes | None:
        """The name under which the layer has what users call ``name``; None for what is none of theirs."""
        self._check_has_xattrs()
        stored = self._tree.xattrs.stored_name(name)
        if stored is None or not self._tree.has_overrides:
            return stored
        return ownership.stored_xattr(self._tree, inode, stored)

    def _writable_name(self, inode: Inode, name: bytes) -> bytes:
        stored = self._stored_name(inode, name)
        if stored is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return stored

    def _check_has_xattrs(self) -> None:
        if not self._has_xattrs:
            # Users get EOPNOTSUPP; for the kernel it means not to ask again.
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _has_xattr(target: int | bytes, stored: bytes, follow: bool) -> bool:
    try:
        os.getxattr(target, stored, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return False
    return True
