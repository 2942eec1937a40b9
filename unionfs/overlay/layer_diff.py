"""What is different in one stack of layers from another: added, modified, deleted names.

Both are looked at as a mount would show them.  A directory that is made up of the same real ones in both is left out with all
that is below it, so it costs what the layers hold in which the stacks differ, not what is below those.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from unionfs.overlay import kinds
from unionfs.overlay.data_place import DataPlace
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import RealDir, Stack
from unionfs.overlay.options import Options
from unionfs.overlay.tree import Tree


class Change(NamedTuple):
    """One name: ``kind`` is ``A`` (added), ``M`` (modified) or ``D`` (deleted, with all below it); ``path`` begins with ``/``."""

    kind: str
    path: bytes


def layer_diff(old: Stack, new: Stack, *, is_user: bool) -> Iterator[Change]:
    """The changes from ``old`` to ``new``, stacks without upper, by path.

    A file counts as modified if type, mode, owner, size, mtime, device, link target or an extended attribute differs; one
    that was copied up and changed back does not.

    Raises:
        OSError: a layer cannot be read.
    """
    options = Options(userxattr=is_user)
    before = Tree(old, options)
    try:
        after = Tree(new, options)
        try:
            yield from _compare(before, after)
        finally:
            after.close()
    finally:
        before.close()


def _compare(before: Tree, after: Tree) -> Iterator[Change]:
    waiting = [(b"", before.root, after.root)]
    while waiting:
        for tree in (before, after):
            if tree.pool.is_full:
                tree.pool.trim()
        path, old, new = waiting.pop()
        below: list[tuple[bytes, Directory, Directory]] = []
        for name in sorted({*before.names(old), *after.names(new)}):
            yield from _compare_name(before, after, path + b"/" + name, (old, new, name), below)
        waiting += reversed(below)


def _compare_name(
    before: Tree,
    after: Tree,
    path: bytes,
    where: tuple[Directory, Directory, bytes],
    below: list[tuple[bytes, Directory, Directory]],
) -> Iterator[Change]:
    old_parent, new_parent, name = where
    old, new = before.find(old_parent, name), after.find(new_parent, name)
    if old is None or new is None:
        if new is not None:
            yield from _added(after, path, new[0])
        elif old is not None:
            yield Change("D", path)
        return
    (old_inode, old_st), (new_inode, new_st) = old, new
    if is_same_place(old_inode, new_inode):
        return
    if isinstance(old_inode, Directory) and isinstance(new_inode, Directory):
        if _look(before, old_inode, old_st)[:-1] != _look(after, new_inode, new_st)[:-1]:
            yield Change("M", path)
        below.append((path, old_inode, new_inode))
    elif isinstance(old_inode, Directory) or isinstance(new_inode, Directory):
        yield Change("D", path)
        yield from _added(after, path, new_inode)
    elif _look(before, old_inode, old_st) != _look(after, new_inode, new_st):
        yield Change("M", path)


def _added(tree: Tree, path: bytes, inode: Inode) -> Iterator[Change]:
    waiting = [(path, inode)]
    while waiting:
        path, inode = waiting.pop()
        yield Change("A", path)
        if isinstance(inode, Directory):
            names = sorted(tree.names(inode), reverse=True)
            waiting += [(path + b"/" + name, tree.must_find(inode, name)) for name in names]


def real_key(real: RealDir) -> tuple[str, str]:
    """A real directory as a value that is the same in two trees."""
    return str(real.layer.path), str(real.path())


def is_same_place(one: Inode, other: Inode) -> bool:
    """Whether two inodes of two trees stand for the same real objects."""
    if isinstance(one, Directory) and isinstance(other, Directory):
        return [real_key(real) for real in one.lowers] == [real_key(real) for real in other.lowers]
    if isinstance(one, Directory) or isinstance(other, Directory):
        return False
    return _object(one) == _object(other)


def _object(inode: Inode) -> tuple[object, ...]:
    # The names of one file lead to one inode, which has the place of the name that was looked up first.
    place = inode.links.key if inode.links is not None else (real_key(inode.place), inode.place_name)
    return place if not isinstance(inode.data, DataPlace) else (*place, real_key(inode.data.place), inode.data.name)


def _look(tree: Tree, inode: Inode, st: os.stat_result) -> tuple[object, ...]:
    """What a user sees of an object; the last is what does not count for a directory."""
    if isinstance(inode, Directory):
        st = tree.stat(inode)
    path = tree.path(inode)
    names = tree.xattrs.shown_names(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    stored = {name: tree.xattrs.stored_name(name) for name in names}
    xattrs = {name: os.getxattr(path, where, follow_symlinks=False) for name, where in stored.items() if where is not None}
    target = os.readlink(path) if inode.kind == kinds.LNK else b""
    return inode.kind, st.st_mode, st.st_uid, st.st_gid, st.st_rdev, target, xattrs, (st.st_size, st.st_mtime_ns)
