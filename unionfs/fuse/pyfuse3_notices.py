"""Notices to the kernel by way of pyfuse3."""

from __future__ import annotations

import errno
import logging

import pyfuse3

from unionfs.filesystem import Forgettable, Notice, StaleAttributes, StaleName
from unionfs.fuse.pyfuse3_node_ids import NodeIds

log = logging.getLogger("unionfs.fuse")


def notify(kernel_id: int | None, notice: Notice) -> None:
    """Tell the kernel; ``kernel_id``: what it calls the node of the notice; None: it does not know it."""
    if kernel_id is None:
        return
    try:
        if isinstance(notice, StaleName):
            pyfuse3.invalidate_entry(pyfuse3.InodeT(kernel_id), pyfuse3.FileNameT(notice.name))
        else:
            # With attr_only the kernel takes no lock of the inode and waits for nothing.
            pyfuse3.invalidate_inode(pyfuse3.InodeT(kernel_id), attr_only=isinstance(notice, StaleAttributes))
    except OSError as error:
        # ENOENT: dropped meanwhile, its FORGET is on the way, or a name nobody asked for.  ENODEV, ENOTCONN: unmounted.
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
            log.exception("the kernel refuses %r", notice)


def tell_of_stale_attributes(notices: list[StaleAttributes | Forgettable], ids: NodeIds) -> None:
    """Tell of those of ``notices`` that are about attributes, and take them from the list."""
    for notice in notices:
        if isinstance(notice, StaleAttributes):
            notify(ids.known_id(notice.node), notice)
    notices[:] = [notice for notice in notices if isinstance(notice, Forgettable)]
