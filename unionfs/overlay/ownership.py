"""Whose the objects of a union are, where that is not simply what their real owners say: ids that are mapped or squashed
(`unionfs.overlay.id_map`), owners in extended attributes (`unionfs.overlay.stat_override`).

Two kinds of ids must not be confused: those that *users* see and give, and those that the layers have *stored*.  A copy-up
copies what is stored; whatever else is set comes from a user.
"""

from __future__ import annotations

import errno
import logging
import os
import stat

from unionfs.filesystem import Caller
from unionfs.linux.chmod import change_mode
from unionfs.overlay.id_map import ACL_PREFIX
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer
from unionfs.overlay.stat_override import OWN_NAMES, REAL_PERMISSIONS, StatOverride, Stored, can_hold
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")

_NOT_OURS_TO_GIVE = (errno.EPERM, errno.EINVAL)
"""What chown(2) says to those without the right to it, and of ids that their user namespace has not."""


def override_of(tree: Tree, inode: Inode) -> StatOverride | None:
    """The attribute that has the owner of ``inode``, if its layer uses one."""
    # Files that are found by the index are upper ones too.
    return tree.upper_layer.override if inode.is_upper else _layer(inode).override


def stored(tree: Tree, inode: Inode, st: os.stat_result) -> Stored:
    """What the layer of ``inode`` says of it; ``st``: its real attributes.

    Raises:
        OSError: EINVAL: it says what cannot be.
    """
    found, ids = Stored.of(st), tree.ids
    if ids is None:
        return found
    if _is_idmapped(inode):
        found = found._replace(uid=ids.uids.unmapped(found.uid), gid=ids.gids.unmapped(found.gid))
    override = override_of(tree, inode)
    return found if override is None else tree.ask(inode, override.read, found)


def _layer(inode: Inode) -> Layer:
    return (inode.top if isinstance(inode, Directory) else inode.place).layer


def _is_idmapped(inode: Inode) -> bool:
    return not inode.is_upper and _layer(inode).is_idmapped


def shown(tree: Tree, inode: Inode, st: os.stat_result) -> Stored:
    """The same as users see it."""
    found = stored(tree, inode, st)
    ids = tree.ids
    return found if ids is None else found._replace(uid=ids.uids.shown(found.uid), gid=ids.gids.shown(found.gid))


def without_set_ids(mode: int) -> int:
    """``mode`` after a change by somebody without CAP_FSETID (setattr_should_drop_suidgid of Linux)."""
    return mode & ~(stat.S_ISUID | stat.S_ISGID if mode & stat.S_IXGRP else stat.S_ISUID)


# -- changes by users -----------------------------------------------------------------------------------------------------


def chown(tree: Tree, inode: Inode, uid: int, gid: int) -> None:
    """chown(2) of an upper object; -1: that one stays."""
    ids = tree.ids
    if ids is None:
        target, follow = tree.target(inode)
        _chown(tree, target, uid, gid, follow)
        return
    uid = uid if uid == -1 else ids.uids.stored(uid)
    gid = gid if gid == -1 else ids.gids.stored(gid)
    path, follow, st = tree.path(inode), inode.orphan_fd >= 0, tree.stat(inode)
    override = _upper_override(tree, st.st_mode)
    if override is None:
        if not _chown(tree, path, uid, gid, follow) and stat.S_ISREG(st.st_mode):
            _chmod(path, stat.S_IMODE(without_set_ids(st.st_mode)), follow)
        return
    before = override.read(path, follow, Stored.of(st))
    mode = before.mode if stat.S_ISDIR(st.st_mode) else without_set_ids(before.mode)
    after = before._replace(uid=before.uid if uid == -1 else uid, gid=before.gid if gid == -1 else gid, mode=mode)
    _rewrite(override, path, follow, st, after)


def chmod(tree: Tree, inode: Inode, mode: int) -> None:
    """chmod(2) of an upper object that is no symbolic link."""
    st = None if tree.ids is None else tree.stat(inode)
    override = None if st is None else _upper_override(tree, st.st_mode)
    if st is None or override is None:
        target, follow = tree.target(inode)
        _chmod(target, stat.S_IMODE(mode), follow)
    else:
        path, follow = tree.path(inode), inode.orphan_fd >= 0
        _rewrite(override, path, follow, st, override.read(path, follow, Stored.of(st))._replace(mode=mode))


def _rewrite(override: StatOverride, path: bytes, follow: bool, st: os.stat_result, stored: Stored) -> None:
    if st.st_mode & (stat.S_ISUID | stat.S_ISGID):
        # Made before owners went into attributes: the real bits would outlive a write by somebody who may not keep them.
        _chmod(path, stat.S_IMODE(st.st_mode) & 0o1777, follow)
    override.write(path, follow, stored)


def owner_of_new(tree: Tree, caller: Caller) -> tuple[int, int]:
    """The uid and gid that what the caller makes has in the upper, but for a S_ISGID of the parent."""
    if tree.ids is None:
        return caller.uid, caller.gid
    return tree.ids.uids.stored(caller.uid), tree.ids.gids.stored(caller.gid)


def own_new(
    tree: Tree,
    parent: Directory,
    dir_fd: int,
    name: bytes,
    caller: Caller,
    parent_fd: int,
    st: os.stat_result | None = None,
    follow: bool = False,
    looks: bool = True,
) -> os.stat_result:
    """Give what was just made for ``parent`` to the caller; its real attributes after that.

    ``parent_fd``: the real ``parent``; ``dir_fd``: where it is for now; ``st``: its attributes, if the caller has them;
    ``follow``: ``name`` is the path of an open file in /proc; ``looks``: false: those of before will do.
    """
    if st is None:
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=follow)
    uid, gid = owner_of_new(tree, caller)
    if st.st_gid != gid or tree.has_overrides:
        above = stored(tree, parent, os.fstat(parent_fd))
        if above.mode & stat.S_ISGID:
            gid = above.gid
        override = _upper_override(tree, st.st_mode)
        if override is not None:
            path = name if follow else b"/proc/self/fd/%d/%s" % (dir_fd, name)
            _override_new(override, path, follow, Stored(uid, gid, st.st_mode, 0), above)
            return os.stat(name, dir_fd=dir_fd, follow_symlinks=follow)
    if (st.st_uid, st.st_gid) == (uid, gid):
        return st
    _chown(tree, name, uid, gid, follow, dir_fd)
    if st.st_mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISDIR(st.st_mode):
        _chmod(name, stat.S_IMODE(st.st_mode), follow, dir_fd)
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=follow) if looks else st


def _override_new(override: StatOverride, path: bytes, follow: bool, new: Stored, parent: Stored) -> None:
    mode = new.mode
    if stat.S_ISDIR(mode):
        # The filesystem handed down the bit of the real parent, which has none or means somebody else by it.
        mode = mode & ~stat.S_ISGID | parent.mode & stat.S_ISGID
    # The permissions first: those that were asked for may forbid even the owner to set an attribute.
    _chmod(path, REAL_PERMISSIONS, follow)
    override.write(path, follow, new._replace(mode=mode))


# -- copy-up ----------------------------------------------------------------------------------------------------------------


def copy_owner(
    tree: Tree, source: Stored, target: bytes | int, st: os.stat_result, follow: bool, made: os.stat_result | None = None
) -> bool:
    """First step, before attributes that chown(2) would drop: give the copy at ``target`` the stored owner of its source, whose
    real attributes are ``st``.  ``made``: those of the copy, if known.  False if it cannot have that owner, and need not.

    Raises:
        OSError: EOPNOTSUPP for a regular file that the lower layer makes pass for a device or the like, where the upper cannot.
    """
    if _upper_override(tree, st.st_mode) is not None:
        return True
    if stat.S_IFMT(source.mode) != stat.S_IFMT(st.st_mode):
        raise OSError(errno.EOPNOTSUPP, "only an upper with xattr_permissions can hold such an object")
    if made is not None and (made.st_uid, made.st_gid) == (source.uid, source.gid):
        return True
    try:
        return _chown(tree, target, source.uid, source.gid, follow)
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_GIVE:
            raise
        _tell_of_owner(tree, source)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from error


def _tell_of_owner(tree: Tree, source: Stored) -> None:
    if not tree.told_of_owners:
        tree.told_of_owners = True
        _log.warning(
            "a file of a lower layer belongs to user %d and group %d, whom this mount may give nothing: such files cannot be "
            "changed (EPERM); mount as root, in a user namespace that has these ids (podman unshare), or with squash_to_uid",
            source.uid,
            source.gid,
        )


def copy_mode(tree: Tree, source: Stored, target: bytes | int, st: os.stat_result, follow: bool, is_owned: bool) -> None:
    """Second step, after the attributes: the permissions.  ``is_owned``: what the first one returned."""
    override = _upper_override(tree, st.st_mode)
    if override is not None:
        _chmod(target, REAL_PERMISSIONS, follow)
        override.write(target, follow, source)
    elif not stat.S_ISLNK(st.st_mode):
        # A set-id bit would be that of whoever serves the union.
        _chmod(target, stat.S_IMODE(source.mode) & (0o7777 if is_owned else 0o1777), follow)


def copied_xattr(tree: Tree, inode: Inode, st: os.stat_result, name: bytes) -> bytes | None:
    """The name under which the copy of ``inode`` has what that has as ``name``; None: it does not get it."""
    if tree.ids is None:
        return name
    override = override_of(tree, inode)
    visible = name if override is None else override.shown_name(name)
    target = _upper_override(tree, st.st_mode)
    if visible is None or target is None:
        return visible
    # Its real permissions are not those that count, so nor is an ACL, which would change them.
    return None if visible.startswith(ACL_PREFIX) else target.stored_name(visible)


def stored_acl(tree: Tree, inode: Inode, value: bytes) -> bytes:
    """An access control list of ``inode`` with the ids that its layer has stored."""
    return value if tree.ids is None or not _is_idmapped(inode) else tree.ids.unmapped_acl(value)


# -- attributes that users see ------------------------------------------------------------------------------------------------


def stored_xattr(tree: Tree, inode: Inode, name: bytes) -> bytes | None:
    """The name under which the layer of ``inode`` holds what users call ``name``; None for the one that has its owner.

    Raises:
        OSError: EOPNOTSUPP: where owners are in attributes there are no ACLs.
    """
    if tree.has_overrides and name.startswith(ACL_PREFIX):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    override = override_of(tree, inode)
    if override is not None:
        return override.stored_name(name)
    # An upper that keeps none yet would take the form that its root shows at the next mount.
    return None if tree.has_overrides and name in OWN_NAMES else name


def shown_xattrs(tree: Tree, inode: Inode, names: list[bytes]) -> list[bytes]:
    """What users see of the names that the layer holds."""
    override = override_of(tree, inode)
    if override is None:
        names = [name for name in names if name not in OWN_NAMES]
    else:
        names = [visible for name in names if (visible := override.shown_name(name)) is not None]
    return [name for name in names if not name.startswith(ACL_PREFIX)] if tree.has_overrides else names


# -- the real thing -----------------------------------------------------------------------------------------------------------


def _upper_override(tree: Tree, mode: int) -> StatOverride | None:
    """The attribute that an object of the upper layer has its owner in; ``mode``: its real one."""
    override = tree.upper_layer.override
    return override if override is not None and can_hold(mode) else None


def _chmod(target: int | bytes, mode: int, follow: bool, dir_fd: int | None = None) -> None:
    """Not through a symbolic link unless ``follow``: whoever may write to the layer may have put one there just now."""
    if follow or isinstance(target, int):
        os.chmod(target, mode, dir_fd=dir_fd)
    else:
        change_mode(target, mode, dir_fd)


def _chown(tree: Tree, target: int | bytes, uid: int, gid: int, follow: bool, dir_fd: int | None = None) -> bool:
    """False if the owner stays as it is, where that may be."""
    try:
        os.chown(target, uid, gid, dir_fd=dir_fd, follow_symlinks=follow)
    except OSError as error:
        # With squashed ids nobody sees the real owner.  Symbolic links and special files cannot have the attribute; theirs counts
        # for less than that a tree can be copied.
        may_differ = tree.ids is not None and (tree.ids.squashes or tree.upper_layer.override is not None)
        if error.errno not in _NOT_OURS_TO_GIVE or not may_differ:
            raise
        return False
    return True
