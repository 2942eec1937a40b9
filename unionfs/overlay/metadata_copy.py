"""Copying the metadata of an object: owner, extended attributes, mode, times, in an order in which none undoes another."""

from __future__ import annotations

import errno
import logging
import os

from unionfs.overlay import ownership
from unionfs.overlay.id_map import ACL_PREFIX
from unionfs.overlay.inode import Inode
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.tree import Tree
from unionfs.overlay.work_dir import StagedFile

_log = logging.getLogger("unionfs.overlay")

# Attributes of these kinds decide about access: an object must not appear without them.  Others the upper may be unable to hold.
_VITAL_XATTRS = (b"security.", ACL_PREFIX)


def ask_for_metadata(tree: Tree, inode: Inode, st: os.stat_result) -> None:
    """Ask ``inode`` for all that `copy_metadata` will want to know.

    Raises:
        Blocking: it is in a remote layer, and not all is known yet.
        OSError: the object cannot be read.
    """
    ownership.stored(tree, inode, st)
    _xattrs_of(tree, inode)


def copy_metadata(tree: Tree, inode: Inode, target: bytes | StagedFile, st: os.stat_result) -> None:
    """Give ``target``, a path or what is being staged, owner, extended attributes, mode and times of ``inode``, whose real ones
    are ``st``."""
    source = ownership.stored(tree, inode, st)
    # By descriptor where there is one: the way through /proc costs three times as much as the change itself.
    place, made = (target.fd, target.made) if isinstance(target, StagedFile) else (target, None)
    follow = made is not None
    is_owned = ownership.copy_owner(tree, source, place, st, follow, made)
    _copy_xattrs(tree, inode, place, st, follow)
    ownership.copy_mode(tree, source, place, st, follow, is_owned)
    os.utime(place, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=follow)


def _copy_xattrs(tree: Tree, inode: Inode, target: bytes | int, st: os.stat_result, follow_target: bool) -> None:
    for name, value in _xattrs_of(tree, inode):
        copied = ownership.copied_xattr(tree, inode, st, name)
        if copied is None:
            continue
        if name.startswith(ACL_PREFIX):
            value = ownership.stored_acl(tree, inode, value)
        try:
            os.setxattr(target, copied, value, follow_symlinks=follow_target)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM) or copied.startswith(_VITAL_XATTRS):
                raise
            _log.info("%s: extended attribute %r was not copied up: %s", os.fsdecode(inode.name), name, error.strerror)


def _xattrs_of(tree: Tree, inode: Inode) -> list[tuple[bytes, bytes]]:
    return tree.ask(inode, _xattrs, tree.xattrs)


def _xattrs(source: int | bytes, follow: bool, own: PrivateXattrs) -> list[tuple[bytes, bytes]]:
    """Names and values, those of the union's own left out."""
    try:
        names = [os.fsencode(name) for name in os.listxattr(source, follow_symlinks=follow)]
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
    return [(name, os.getxattr(source, name, follow_symlinks=follow)) for name in names if not own.is_private(name)]
