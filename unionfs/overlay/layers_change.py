"""Changing the lower layers of a union in use, and reading them anew after somebody changed them underneath.

The union is looked at as a fresh mount of the new layers would show it (`Tree.over`), name by name where something is known by
that name.  What is the same object there keeps its inode and takes the places over; what is not loses its name.  So a change
comes out as a fresh mount by construction.  Nothing has changed until `LayersChange.apply`, which does no I/O that could fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unionfs.filesystem import Notice, StaleContents, StaleName
from unionfs.overlay import kinds
from unionfs.overlay.data_place import DataPlace, SoughtData
from unionfs.overlay.fd_pool import FdPool
from unionfs.overlay.inode import Directory, Inode
from unionfs.overlay.layer import Layer, ask_elsewhere, stat_in, waited_for
from unionfs.overlay.tree import Tree


class Underneath(NamedTuple):
    """Somebody changed the layers: of no object can it be counted on that it is still there, or as it was.

    ``kernel_keeps_sizes``: see `unionfs.overlay.union.Union.reread_layers`.
    """

    kernel_keeps_sizes: bool


class Lost(NamedTuple):
    """A known name that leads to another inode, or to none, from now on; ``inode`` is what it led to so far, ``is_there`` whether
    the object itself is where it was."""

    inode: Inode
    parent: Directory
    name: bytes
    is_there: bool


class InTheWay(NamedTuple):
    """Something the kernel holds that could not go on: ``path`` is what a user calls it, ``names`` makes the kernel let go of it
    if nobody uses it."""

    path: str
    inode: Inode
    names: list[StaleName]


class LayersChange:
    """One change, planned against the tree as it is now: apply it before anything else happens to that, or drop it with
    `discard`."""

    def __init__(self, tree: Tree, lowers: list[Layer], underneath: Underneath | None = None, base: Tree | None = None) -> None:
        """
        Args:
            lowers: the lower layers that shall be, top first.
            underneath: set if it is the layers themselves that have changed.
            base: what the view of the new layers is made of, where that is not ``tree`` (another upper).

        Raises:
            OSError: a layer cannot be read.  Nothing has changed.
        """
        self._tree = tree
        with waited_for({*tree.lowers, *lowers}):
            self._plan(lowers, underneath, base or tree)

    def _plan(self, lowers: list[Layer], underneath: Underneath | None, base: Tree) -> None:
        tree = self._tree
        if underneath is not None:
            for layer in lowers:
                layer.forget()
        self._view = base.over(lowers)
        self._underneath = underneath
        self._leaving = {layer for layer in tree.lowers if layer not in lowers}
        self._kept: list[tuple[Inode, Inode, Directory, bytes]] = []
        self._lost: list[Lost] = []
        self._stale_names: list[Notice] = []
        self._stale_contents: list[Notice] = []
        try:
            self._compare()
            self.in_the_way = list(self._find_in_the_way())
        except OSError:
            self.discard()
            raise

    # -- comparing --------------------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        pairs = [(self._tree.root, self._view.root)]
        while pairs:
            if self._tree.pool.is_full:
                self._tree.pool.trim()
            known, seen = pairs.pop()
            if known.lower_names is not None:
                self._compare_names(known, seen)
            # Also where no name has changed: types, inode numbers and the attributes of the directory itself may have.
            self._stale_contents.append(StaleContents(known.node))
            for name, child in known.children.items():
                found = self._look_up(seen, name)
                if found is None or not self._goes_on(child, found):
                    self._lose(child, known, name, is_there=self._underneath is None)
                elif self._underneath and self._underneath.kernel_keeps_sizes and _was_changed(child, found):
                    self._lose(child, known, name, is_there=True)
                else:
                    self._kept.append((child, found, seen, name))
                    if isinstance(child, Directory) and isinstance(found, Directory):
                        pairs.append((child, found))
                    elif self._underneath and (child.data is not None or _was_changed(child, found)):
                        self._stale_contents.append(StaleContents(child.node))

    def _goes_on(self, known: Inode, seen: Inode) -> bool:
        """Whether what a name leads to is the object that it led to before.  Directories are the same if their path is, whatever
        they merge."""
        if known.kind == kinds.DIR or seen.kind == kinds.DIR:
            return known.kind == seen.kind
        if not _is_alike(self._tree.pool, known, seen):
            return False
        # Upper objects are found by their own names, and nobody but the union changes those.
        return known.is_upper or known.ino == seen.ino or self._is_where_it_was(known, seen)

    def _is_where_it_was(self, known: Inode, seen: Inode) -> bool:
        """Whether a lower object that shows another number is the same nevertheless: after a merge of snapshots it may show one
        that nothing tells of any more (docs/snapshots.md, "Merging")."""
        if self._underneath is not None and _was_changed(known, seen):
            return False
        return (known.links is not None and seen.links is not None) or place_of(known) == place_of(seen)

    def _compare_names(self, known: Directory, seen: Directory) -> None:
        # The kernel may remember of a name it asked for that it is not there.
        before = set(self._tree.names(known))
        self._stale_names += [StaleName(known.node, name) for name in self._view.names(seen) if name not in before]

    def _look_up(self, directory: Directory, name: bytes) -> Inode | None:
        try:
            found = self._view.find(directory, name)
        except OSError:
            # A lookup will fail with it from now on, as in a fresh mount: the object is not there.
            return None
        return found[0] if found is not None else None

    def _lose(self, inode: Inode, parent: Directory, name: bytes, is_there: bool) -> None:
        """Note the name, and all names below it before it."""
        below: list[Lost] = []
        waiting = [Lost(inode, parent, name, is_there)]
        while waiting:
            lost = waiting.pop()
            below.append(lost)
            if isinstance(lost.inode, Directory):
                waiting += [Lost(child, lost.inode, child_name, is_there) for child_name, child in lost.inode.children.items()]
        self._lost += reversed(below)
        self._stale_names += [StaleName(lost.parent.node, lost.name) for lost in reversed(below)]

    # -- what is in the way -------------------------------------------------------------------------------------------------

    def _find_in_the_way(self) -> Iterator[InTheWay]:
        if self._underneath:
            return  # it has happened already
        kept = {known for known, *_ in self._kept}
        for inode, parent, name, _ in self._lost:
            # A lower object of a layer that stays can be used without a name, like one that was removed.
            if inode.nlookup > 0 and inode not in kept and (inode.is_upper or self._is_leaving(inode)):
                yield InTheWay(_path(parent, name), inode, [StaleName(parent.node, name)])
        for inode in self._tree.nodes:
            # Removed, but open; or left behind by a copy-up while open, and its name leads to the copy.
            if not inode.names and inode is not self._tree.root and self._is_leaving(inode):
                names = inode.successor.names if inode.successor is not None else []
                path = _path(*names[0]) if names else f"{os.fsdecode(inode.place_name)} (removed, but open)"
                yield InTheWay(path, inode, [StaleName(parent.node, name) for parent, name in names])

    def _is_leaving(self, inode: Inode) -> bool:
        """Whether the real object or its data is in a layer that is to go."""
        if inode.orphan_fd >= 0:
            return False
        reals = [*inode.lowers] if isinstance(inode, Directory) else [inode.place]
        if isinstance(inode.data, DataPlace):
            reals.append(inode.data.place)
        return any(real.layer in self._leaving for real in reals)

    @property
    def is_held(self) -> bool:
        """Whether the kernel still holds anything of what is in the way."""
        return any(entry.inode.nlookup > 0 for entry in self.in_the_way)

    @property
    def lost_paths(self) -> list[str]:
        """The known names that go, as paths from the root of the union."""
        return [_path(lost.parent, lost.name) for lost in self._lost]

    # -- applying -----------------------------------------------------------------------------------------------------------

    def discard(self) -> None:
        """Let everything be as it is."""
        # What was opened for looking: a layer that is not to be must not stay in use.
        self._tree.pool.close()

    def apply(self) -> list[Notice]:
        """Carry it out; what the kernel must be told.  Layers that are no longer wanted are closed."""
        tree = self._tree
        assert not self.in_the_way
        self.keep_numbers()
        self._take_names()
        # All that is open was opened by way of the old places, and can be opened again.
        tree.pool.close()
        tree.take_lowers(self._view)
        ask_elsewhere(tree.lowers, tree.upper)
        self._let_layers_go()
        # In this order: the kernel is through with the listings it is reading when it has looked for the names.
        return self._stale_names + self._stale_contents

    def keep_numbers(self) -> None:
        """Have it written down of what will show another number than the layers tell then.  To be called before others can see
        that the layers change: another worker that goes on from there could not tell."""
        tree = self._tree
        for known, seen in ((tree.root, self._view.root), *((known, seen) for known, seen, *_ in self._kept)):
            if known.ino != seen.ino:
                tree.nodes.numbers.keep(known)
        tree.journal.flush()

    def _take_names(self) -> None:
        self._take_directory(self._tree.root, self._view.root)
        for known, seen, seen_parent, name in self._kept:
            self._take(known, seen, seen_parent, name)
        for lost in self._lost:
            self._drop(lost)

    def _let_layers_go(self) -> None:
        for layer in self._leaving:
            layer.close()

    def _take(self, known: Inode, seen: Inode, seen_parent: Directory, name: bytes) -> None:
        if not isinstance(seen.data, SoughtData):
            known.data = seen.data  # otherwise in a data-only layer, where it may have been found already
        known.redirect = seen.redirect
        if self._underneath:
            known.lower_ctime = seen.lower_ctime
        if isinstance(known, Directory) and isinstance(seen, Directory):
            self._take_directory(known, seen)
        elif known.is_indexed:
            pass  # the index is its place, whatever the layers
        elif known.is_upper and seen_parent.upper is not None:
            known.place, known.place_name = seen_parent.upper, name
        else:
            known.place, known.place_name = seen.place, seen.place_name

    def _take_directory(self, known: Directory, seen: Directory) -> None:
        known.place, known.place_name = seen.place, seen.place_name
        known.upper, known.lowers = seen.upper, seen.lowers
        known.upper_names, known.lower_names = seen.upper_names, seen.lower_names
        known.impure = seen.impure
        if known.order is not None:
            for name in self._view.names(seen):
                known.order.add(name)

    def _drop(self, lost: Lost) -> None:
        inode, parent, name, is_there = lost
        nodes = self._tree.nodes
        if (parent, name) not in inode.names:
            return  # gone with what was in it
        nodes.detach(inode, parent, name)
        if not inode.names:
            if isinstance(inode, Directory):
                inode.upper_names, inode.lower_names = {}, {}
            if is_there:
                nodes.release(inode)
            else:
                nodes.discard(inode)
        nodes.release(parent)


def place_of(inode: Inode) -> tuple[Layer, tuple[bytes, ...], bytes]:
    """Where its real object is: the layer, the directories on the way from its root, the name."""
    return inode.place.layer, inode.place.names(), inode.place_name


def _is_alike(pool: FdPool, known: Inode, seen: Inode) -> bool:
    """Whether both may be one object that is no directory."""
    if known.kind != seen.kind or known.is_upper != seen.is_upper or not _has_same_data(pool, known, seen):
        return False
    return known.links is None or seen.links is None or known.links.key == seen.links.key


def _was_changed(known: Inode, seen: Inode) -> bool:
    """Whether somebody changed the lower file underneath."""
    return not known.is_upper and known.lower_ctime != seen.lower_ctime


def _has_same_data(pool: FdPool, known: Inode, seen: Inode) -> bool:
    data, other = known.data, seen.data
    if isinstance(data, DataPlace) and isinstance(other, DataPlace):
        if (data.place.layer, data.place.path(), data.name) == (other.place.layer, other.place.path(), other.name):
            return True
        return data.place.layer is other.place.layer and _file_of(pool, data) == _file_of(pool, other)
    if isinstance(data, DataPlace) and isinstance(other, SoughtData):
        # Sought and found since, in a data-only layer, if the place is the one to look at.
        return Path("/", data.place.path().relative_to(data.place.layer.path), os.fsdecode(data.name)) == Path(
            os.fsdecode(other.path)
        )
    return data == other


def _file_of(pool: FdPool, data: DataPlace) -> int:
    """Its inode number; one that has several names is found by any of them."""
    return data.place.ask(pool, stat_in, data.name).st_ino


def _path(parent: Directory, name: bytes) -> str:
    names = [name]
    directory = parent
    while directory.parent is not None:
        names.append(directory.name)
        directory = directory.parent
    return os.fsdecode(b"/".join(reversed(names)))
