"""Lower files with several names: all of them lead to one inode, before a copy-up and, with an index, after it.

Without an index each name of a lower file becomes a file of its own by copy-up, so a union that can copy up but has no index does
not come here.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from unionfs.overlay import kinds
from unionfs.overlay.inode import Directory, Inode, LowerLinks
from unionfs.overlay.origin import Found
from unionfs.overlay.snapshot_origins import lower_ino

if TYPE_CHECKING:
    from unionfs.overlay.tree import Tree


def may_be_kept(tree: Tree, kind: int) -> bool:
    """Whether the names of a lower file of type ``kind`` can be kept together: an entry of the index needs an origin, and no
    symbolic link or special file can have attributes of a user."""
    return kind == kinds.REG or not tree.xattrs.is_user


def find_linked(
    tree: Tree, directory: Directory, name: bytes, kind: int, position: int, st: os.stat_result
) -> tuple[Inode, os.stat_result]:
    """The inode for a lower file with several names, and its attributes; it may have been copied up under another name.

    ``position``: which of ``directory.lowers`` has it; ``st`` is of it.

    Raises:
        OSError: as `Index.entry_of` and `Index.join`; or its data is not where it should be.
    """
    key = st.st_dev, st.st_ino
    known = tree.nodes.lower_links.get(key)
    if known is not None:
        return known, tree.stat(known)
    links = LowerLinks(key, st.st_nlink)
    place = directory.lowers[position]
    if tree.index is not None and len(tree.index) > 0:
        entry = place.ask(tree.pool, tree.index.entry_of, name, st.st_dev)
        if tree.index.has(entry):
            indexed = tree.index.join(links, entry, kind)
            inode = Inode(tree.nodes.new_id(), lower_ino(tree, place, name, st), kind, tree.index.place, entry)
            inode.has_origin = True
            tree.nodes.add(inode)
            tree.nodes.add_lower_links(inode, links)
            tree.nodes.add_hard_link(inode, indexed.st_ino)
            if kind == kinds.REG:
                tree.find_data(inode, directory, name, -1)
            return inode, indexed
    inode = tree.new_lower_inode(directory, name, kind, position, st)
    tree.nodes.add_lower_links(inode, links)
    return inode, st


def join_links(tree: Tree, inode: Inode, origin: Found, entry: bytes, st: os.stat_result) -> bool:
    """Note that an upper file, of which nothing was known, is in the index; false if it is not.

    ``entry``: what the entry of its ``origin`` is called; ``st`` is of the upper file.

    Raises:
        OSError: EIO: the index has another file of the same origin; others as `Index.join`.  The inode is dropped.
    """
    if tree.index is None or not tree.index.has(entry):
        return False
    links = LowerLinks((origin.device, origin.ino), origin.nlink)
    try:
        indexed = tree.index.join(links, entry, inode.kind)
        if indexed.st_ino != st.st_ino:
            raise OSError(errno.EIO, "the index has another file of the same origin", os.fsdecode(inode.place_name))
    except OSError:
        tree.nodes.release(inode)
        raise
    inode.place, inode.place_name = tree.index.place, entry
    tree.nodes.add_lower_links(inode, links)
    return True
