"""Copy-up of lower files with several names by way of the index: the copy goes there first, and the names that the lower file has
come after, each when it is needed (``ovl_link_up`` in fs/overlayfs/copy_up.c)."""

from __future__ import annotations

import os

from unionfs.overlay.copy_target import Target, install
from unionfs.overlay.index import Index
from unionfs.overlay.inode import Directory, Inode, LowerLinks
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import real_name
from unionfs.overlay.tree import Tree


def target_in(index: Index, tree: Tree, inode: Inode, lower: os.stat_result) -> Target:
    """Where ``index`` is to have the copy of the lower file of ``inode``, which has the attributes ``lower``.

    Raises:
        OSError: EOPNOTSUPP: the file has no handle.
    """
    return Target(index.place, inode.place.ask(tree.pool, index.entry_of, inode.place_name, lower.st_dev), None)


def enter(tree: Tree, inode: Inode, entry: bytes, copied: os.stat_result) -> None:
    """``inode`` was copied up as ``entry``; ``copied`` is of the copy.  The name it is known by comes after that (`link_up`)."""
    index, links = _parts(tree, inode)
    index.entered(links, entry)
    tree.nodes.add_hard_link(inode, copied.st_ino)


def link_up(tree: Tree, inode: Inode, parent: Directory, name: bytes, upper: RealDir) -> None:
    """Give an indexed file in the upper layer the name by which a lower one has it.

    ``upper``: the real directory of ``parent`` there.

    Raises:
        OSError: ENOSPC, EDQUOT, EMLINK.
    """
    index, links = _parts(tree, inode)
    tree.mark_impure(parent)
    install(tree, parent, upper, lambda fd: index.link(links, fd, name))
    if parent.upper_names is not None:
        parent.upper_names[name] = real_name(inode.kind, inode.hard_link_ino)
    index.settle(links)


def _parts(tree: Tree, inode: Inode) -> tuple[Index, LowerLinks]:
    assert tree.index is not None
    assert inode.links is not None
    return tree.index, inode.links
