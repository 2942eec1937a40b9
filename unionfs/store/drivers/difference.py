"""What a tree changed of the layers that it was made of, as a layer in the kernel OverlayFS's format."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from unionfs.store.drivers import Change
from unionfs.store.drivers.layer_stack import Found, LayerStack
from unionfs.store.drivers.tree_copy import TreeCopier, XattrNames, copy_times, layer_to_tree, tree_to_layer
from unionfs.store.overlay_format import make_whiteout

_CHUNK = 1 << 20

Tree = dict[bytes, Found]
"""Everything in a tree by its path from the root, the root itself being ``b""``."""


def write_difference(tree: Path, lowers: Sequence[Path], layer: Path) -> None:
    """Write to the empty directory ``layer`` what is to be put over ``lowers`` (top first) to show what ``tree`` holds.

    Two objects of which all but the contents is equal are compared byte by byte: times can be set, so they prove nothing.

    Raises:
        OSError: one of the trees cannot be read, or the layer not be written.
    """
    found = _compare(tree, lowers)
    # The root always: that of the topmost layer is what a union shows of it.
    needed = {b""} | found.changed | {parent for path in found.changed | found.gone for parent in _parents(path)}
    _write(found.after, needed, found.gone, os.fsencode(layer))


def changed_paths(tree: Path, lowers: Sequence[Path]) -> list[Change]:
    """What ``tree`` adds to ``lowers`` (top first), modifies and deletes, with the directories that something was changed in.

    Raises:
        OSError: one of the trees cannot be read.
    """
    found = _compare(tree, lowers)
    shown = found.changed | {parent for path in found.changed | found.gone for parent in _parents(path)}
    changes = [Change("M" if path in found.before else "A", _absolute(path)) for path in shown if path]
    changes += [Change("D", _absolute(path)) for path in found.gone]
    return sorted(changes, key=lambda change: change.path.split("/"))


def _absolute(path: bytes) -> str:
    return "/" + os.fsdecode(path)


class _Difference(NamedTuple):
    before: Tree
    after: Tree
    changed: set[bytes]
    """What is new in ``after``, or other than in ``before``."""
    gone: set[bytes]
    """What is in ``before`` alone, without what is below it."""


def _compare(tree: Path, lowers: Sequence[Path]) -> _Difference:
    before = dict(LayerStack(lowers).walk())
    # A layer holds no sockets: no tar does.
    after = {path: found for path, found in _walk(os.fsencode(tree)) if not stat.S_ISSOCK(found.status.st_mode)}
    gone = {path for path in before if path and path not in after and os.path.dirname(path) in after}
    # Below what is no directory any more nothing needs to be hidden: it hides all that was there by itself.
    gone = {path for path in gone if after[os.path.dirname(path)].is_directory}
    return _Difference(before, after, _changed(before, after), gone)


def _changed(before: Tree, after: Tree) -> set[bytes]:
    changed = {path for path, found in after.items() if path not in before or not _is_same(before[path], found)}
    names_before, names_after = _names_by_inode(before), _names_by_inode(after)
    for names in names_after.values():
        # Names that became those of one file, or of which one is new: in a layer they are together, or not of one file.
        known = names_before.get(_inode(before[next(iter(names))]), set()) if names <= before.keys() else set()
        if len(names) > 1 and (names & changed or not names <= known):
            changed |= names
    return changed


def _names_by_inode(tree: Tree) -> dict[tuple[int, int], set[bytes]]:
    names: dict[tuple[int, int], set[bytes]] = {}
    for path, found in tree.items():
        if not found.is_directory and found.status.st_nlink > 1:
            names.setdefault(_inode(found), set()).add(path)
    return names


def _inode(found: Found) -> tuple[int, int]:
    return found.status.st_dev, found.status.st_ino


def _walk(root: bytes) -> Iterator[tuple[bytes, Found]]:
    pending = [b""]
    while pending:
        relative = pending.pop()
        path = os.path.join(root, relative) if relative else root
        found = Found(path, os.lstat(path))
        yield relative, found
        if found.is_directory:
            pending += (os.path.join(relative, name) for name in os.listdir(path))


def _parents(path: bytes) -> Iterator[bytes]:
    while path:
        path = os.path.dirname(path)
        yield path


def _is_same(before: Found, after: Found) -> bool:
    old, new = before.status, after.status
    kind = stat.S_IFMT(new.st_mode)
    if (old.st_mode, old.st_uid, old.st_gid, old.st_mtime_ns) != (new.st_mode, new.st_uid, new.st_gid, new.st_mtime_ns):
        return False
    if _xattrs(before.path, layer_to_tree) != _xattrs(after.path, lambda name: name):
        return False
    if kind == stat.S_IFREG:
        return old.st_size == new.st_size and _has_same_data(before.path, after.path)
    if kind == stat.S_IFLNK:
        return os.readlink(before.path) == os.readlink(after.path)
    return kind not in (stat.S_IFCHR, stat.S_IFBLK) or old.st_rdev == new.st_rdev


def _xattrs(path: bytes, names: XattrNames) -> dict[str, bytes]:
    shown = ((name, names(name)) for name in os.listxattr(path, follow_symlinks=False))
    return {new: os.getxattr(path, name, follow_symlinks=False) for name, new in shown if new is not None}


def _has_same_data(one: bytes, other: bytes) -> bool:
    with open(one, "rb", buffering=0) as left, open(other, "rb", buffering=0) as right:
        while True:
            data = left.read(_CHUNK)
            if data != right.read(_CHUNK):
                return False
            if not data:
                return True


def _write(tree: Tree, paths: set[bytes], gone: set[bytes], layer: bytes) -> None:
    copier = TreeCopier(tree_to_layer)
    directories = []
    for path in sorted(paths):  # a parent before what is in it
        found, target = tree[path], os.path.join(layer, path)
        if path:
            copier.copy(found.path, found.status, target)
        else:
            copier.copy_metadata(found.path, found.status, layer)
        if found.is_directory:
            directories.append((found, target))
    for path in sorted(gone):
        _hide(layer, path)
    for found, target in reversed(directories):
        copy_times(found.status, target)


def _hide(layer: bytes, path: bytes) -> None:
    fd = os.open(os.path.join(layer, os.path.dirname(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        make_whiteout(fd, os.path.basename(path))
    finally:
        os.close(fd)
