"""All names of indexed files, put into the upper.

An indexed file may have names that only a lower layer has: whoever comes by one finds the file through the index.  An upper that
becomes a lower layer has no index any more, so each name must be in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from unionfs.overlay import kinds
from unionfs.overlay.copy_up import CopyUp
from unionfs.overlay.index import Index
from unionfs.overlay.inode import Directory
from unionfs.overlay.listing import lower_ino, lower_kind, lower_places
from unionfs.overlay.tree import Tree


def link_all_names(tree: Tree, index: Index) -> None:
    """Give each file of ``index`` all the names that the union shows it by.

    Looked for in all directories that are in a lower layer: a name's number tells there whether it is one of them.

    Raises:
        OSError: a directory cannot be read or copied up.
    """
    wanted = index.incomplete()
    if not wanted:
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
            waiting += list(_merged_directories(tree, directory))
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
            copy_up.copy_up_name(inode, directory, name)
        if inode.nlookup == 0:
            tree.nodes.release(inode)


def _merged_directories(tree: Tree, directory: Directory) -> Iterator[Directory]:
    """Those in ``directory`` that may have names of a lower layer."""
    for name in tree.names(directory):
        if tree.kind(directory, name) != kinds.DIR:
            continue
        child = tree.must_find(directory, name)
        assert isinstance(child, Directory)
        if child.lowers:
            yield child
        elif child.nlookup == 0:
            tree.nodes.release(child)
