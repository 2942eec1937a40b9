"""All names of indexed files, put into the upper.

An indexed file may have names that only a lower layer has: whoever comes by one finds the file through the index.  An upper that
becomes a lower layer has no index any more, so each name must be in it; and what is known of such a file must have one of them.
"""

from __future__ import annotations

import os

from unionfs.overlay import kinds
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.index import Index
from unionfs.overlay.inode import Directory
from unionfs.overlay.listing import ino_in, kind_in, lower_ino, lower_kind, lower_places
from unionfs.overlay.tree import Tree


def link_all_names(tree: Tree, index: Index) -> None:
    """Give each file of ``index`` all the names that the union shows it by, and each known inode of one a name.

    Looked for in all directories, as one with a lower part may have come below one that has none: a name's number tells whether
    it is one of them.

    Raises:
        OSError: a directory cannot be read or copied up.
    """
    wanted = index.incomplete()
    nameless = {inode.hard_link_ino for inode in tree.nodes if inode.is_indexed and not inode.names}
    if not wanted and not nameless:
        return
    copy_up = CopyUp(tree, "volatile", metacopy=True)
    visited: list[Directory] = []
    waiting = [tree.root]
    try:
        while waiting:
            if tree.pool.is_full:
                tree.pool.trim()
            directory = waiting.pop()
            visited.append(directory)
            tree.load(directory)
            _link_names(tree, copy_up, directory, wanted)
            _know_names(tree, directory, nameless)
            waiting += [
                child
                for name in tree.names(directory)
                if tree.kind(directory, name) == kinds.DIR and isinstance(child := tree.must_find(directory, name), Directory)
            ]
    finally:
        # Nobody would forget what the kernel does not know of.
        for directory in reversed([*visited, *waiting]):
            if directory.nlookup == 0:
                tree.nodes.release(directory)


def _link_names(tree: Tree, copy_up: CopyUp, directory: Directory, wanted: set[tuple[int, int]]) -> None:
    for name, found in list((directory.lower_names or {}).items()):
        device = directory.lowers[lower_places(found)[0]].layer.device
        if (device, lower_ino(found)) not in wanted or lower_kind(found) == kinds.DIR or tree.has_upper(directory, name):
            continue
        inode = tree.must_find(directory, name)
        if inode.is_indexed:
            tree.journal.flush()  # another worker must know the directory to give it its times back
            copy_up.copy_up_name(inode, directory, name)
        if inode.nlookup == 0:
            tree.nodes.release(inode)


def _know_names(tree: Tree, directory: Directory, nameless: set[int]) -> None:
    """Look up the names that the upper has of files with the numbers ``nameless``."""
    if not nameless or directory.upper is None:
        return
    for name, real in list((directory.upper_names or {}).items()):
        if kind_in(real) in (kinds.DIR, kinds.WHT):
            continue
        ino = ino_in(real) or os.stat(name, dir_fd=tree.dir_fd(directory.upper), follow_symlinks=False).st_ino
        if ino in nameless:
            tree.must_find(directory, name)
