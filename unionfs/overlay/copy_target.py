"""Where a copy-up puts its copy: what is noted there of where it comes from, and the step that installs it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from unionfs.overlay import snapshot_origins
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import RealDir
from unionfs.overlay.tree import Tree

_log = logging.getLogger("unionfs.overlay")


class Target(NamedTuple):
    """Where a copy gets its name: that of the object in a directory of the upper layer, or one in the index (then without
    ``parent``)."""

    place: RealDir
    name: bytes
    parent: Directory | None


def set_origin(tree: Tree, inode: Inode, target: Target, copy: bytes | int, st: os.stat_result) -> None:
    """Note on ``copy``, a path or a descriptor, where it comes from: from ``inode``, whose real object has the attributes ``st``.

    Not where that has several names and there is no index: because only one of them moves to the upper.
    """
    if target.parent is not None:
        if st.st_nlink > 1:
            return
        tree.mark_impure(target.parent)
    elif tree.index is not None:
        tree.index.prepare(copy, st.st_nlink)
    follow = isinstance(copy, int)
    inode.has_origin = tree.xattrs.set_origin(copy, origin_of(tree, inode, st), follow)
    first = snapshot_origins.first_origin(tree, inode.place, inode.place_name) if inode.has_origin else None
    if first is not None:
        tree.xattrs.set_first_origin(copy, first.value, follow)


def origin_of(tree: Tree, inode: Inode, st: os.stat_result) -> bytes:
    """The value of ``origin`` that means the lower object of ``inode``, which has the attributes ``st``."""
    real, name = (inode.lowers[0], b"") if isinstance(inode, Directory) else (inode.place, inode.place_name)
    return real.ask(tree.pool, tree.origins.of, name, st.st_dev)


def install(tree: Tree, directory: Directory | None, upper: RealDir, put: Callable[[int], None]) -> None:
    """Run ``put`` on the descriptor of ``upper``, the upper part of ``directory`` (None: the index), and give it its times back:
    for the user nothing has changed in it.

    Raises:
        OSError: that of ``put``.  Once that is done the object is in place, and whoever is told otherwise would put it there
            again; so times that cannot be given back are only logged.
    """
    fd = tree.dir_fd(upper)
    before = os.fstat(fd)
    if directory is not None:
        tree.journal.keep_times(directory.node, before)
    try:
        put(fd)
        _restore_times(upper, fd, before)
    finally:
        tree.journal.times_are_kept()


def _restore_times(upper: RealDir, fd: int, before: os.stat_result) -> None:
    try:
        _give_times_back(fd, before)
        upper.layer.hide_change(before, fd)
    except OSError as error:
        _log.warning("could not give %s its times back after a copy-up: %s", upper.path(), error)


def _give_times_back(fd: int, before: os.stat_result) -> None:
    times = before.st_atime_ns, before.st_mtime_ns
    try:
        os.utime(fd, ns=times)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # The descriptor of a directory that may not be read (O_PATH) is good for paths only.
        os.utime(b"/proc/self/fd/%d" % fd, ns=times)
