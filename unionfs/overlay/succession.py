"""What stands for an object once it was copied up: its inode, which moves to the upper one, or another in its stead.

Another one where the kernel has passthrough opens of the lower file (the inode is pinned): all opens of one node go to one file.
"""

from __future__ import annotations

import os

from unionfs.filesystem import StaleAttributes
from unionfs.overlay.copy_target import Target
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.fd_pool import close
from unionfs.overlay.inode import Inode
from unionfs.overlay.tree import Tree


def move(tree: Tree, inode: Inode, target: Target | None, upper_fd: int) -> Inode:
    """Let an inode stand for the upper object at ``target`` (None: it has no name); which one that is.

    ``upper_fd``: a descriptor of the object for reading and writing, which the inode takes; -1: none.
    """
    orphan_fd = -1
    if target is None and upper_fd >= 0:
        try:
            orphan_fd = os.open(b"/proc/self/fd/%d" % upper_fd, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            os.close(upper_fd)
            raise
    moved = move_data(tree, inode, upper_fd)
    if target is None:
        moved.place = tree.upper_layer.root  # not where it is, for it has no name: which layer's it is
        if orphan_fd >= 0:
            moved.orphan_fd = orphan_fd
            tree.nodes.touched[moved] = None
    else:
        moved.place, moved.place_name = target.place, target.name
    return moved


def move_data(tree: Tree, inode: Inode, upper_fd: int) -> Inode:
    """The same where the place is the same as before, and just the data has come to it, or will be set by the caller."""
    moved = succeed(tree, inode) if inode.pins else inode
    close(moved)
    if moved.rare is not None:
        moved.data, moved.carried = None, 0
    if upper_fd >= 0:
        moved.fd, moved.fd_writable = upper_fd, True
        tree.pool.add(moved)
    return moved


def move_metadata(inode: Inode, target: Target, lower: os.stat_result) -> Inode:
    """Let ``inode`` stand for a metadata-only copy of what has the attributes ``lower``.  Its data does not move, so a pinned one
    needs no successor."""
    if inode.data is None:
        inode.data = DataPlace(inode.place, inode.place_name, lower.st_blocks)
    inode.place, inode.place_name = target.place, target.name
    return inode


def succeed(tree: Tree, stale: Inode) -> Inode:
    """Put another inode in the stead of one whose opens are of a real file that it does not stand for any more."""
    successor = Inode(tree.nodes.new_id(), stale.ino, stale.kind, stale.place, stale.place_name)
    tree.nodes.add(successor)
    successor.has_origin = stale.has_origin
    successor.orphan_fd, stale.orphan_fd = stale.orphan_fd, -1
    tree.nodes.numbers.hand_on(stale, successor)
    for parent, name in list(stale.names):
        tree.nodes.detach(stale, parent, name)
        tree.nodes.attach(successor, parent, name)
    if stale.links is not None:
        tree.nodes.add_lower_links(successor, stale.links)
        stale.links = None
    if stale.hard_link_ino:
        tree.nodes.add_hard_link(successor, stale.hard_link_ino)
        stale.hard_link_ino = 0
    tree.nodes.succeed(stale, successor)
    tree.notices.append(StaleAttributes(stale.node))
    return successor
