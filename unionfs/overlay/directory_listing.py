"""readdir and readdirplus."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from itertools import islice

from unionfs.filesystem import DirRow, Entry
from unionfs.journal import records
from unionfs.journal.journal import Finished, Recorded
from unionfs.overlay import kinds
from unionfs.overlay.attributes import attr_of, new_tuple
from unionfs.overlay.inode import Directory
from unionfs.overlay.layer import stat_in
from unionfs.overlay.listing import LowerName, RealName, ino_in, kind_in, lower_ino, lower_kind, lower_places
from unionfs.overlay.listing_order import ListingOrder
from unionfs.overlay.remote_layer import Place, RemoteLayer
from unionfs.overlay.tree import Tree

_AHEAD = 128
"""Names: about as many as a reply has room for."""
_AFTER_DOT = 1
_AFTER_DOTDOT = 2


class _Run(Recorded):
    """Inodes that became known one after the other, by names of one directory: one record of all takes a third of the time."""

    __slots__ = ("_parent", "first", "names")

    def __init__(self, first: int, parent: int) -> None:
        self.first = first
        self._parent = parent
        self.names: list[bytes] = []

    def write(self, window: memoryview, at: int) -> int:
        """What the journal keeps of them."""
        return Finished(records.run(self.first, self._parent, self.names)).write(window, at)


class DirectoryListing:
    """Lists directories of one union."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def readdir(self, directory: Directory, offset: int) -> Iterator[DirRow]:
        """Rows without entries: no object is looked at but those that are known already.  So the type of a file is left open
        where an attribute may make it pass for a device."""
        yield from self._dots(directory, offset)
        order = self._order(directory, offset)
        for after, name in order.after(order.start() if offset <= _AFTER_DOTDOT else offset):
            row = self._row(directory, name, after)
            if row is not None:
                yield row

    def readdirplus(self, directory: Directory, offset: int) -> Iterator[DirRow]:
        """Rows with entries, where these can be had; each counts a lookup."""
        yield from self._dots(directory, offset)
        tree, touched = self._tree, self._tree.nodes.touched
        run: _Run | None = None
        order = self._order(directory, offset)
        start = order.start() if offset <= _AFTER_DOTDOT else offset
        if any(real.layer.remote is not None for real in directory.lowers):
            self._ask_ahead(directory, (name for _, name in islice(order.after(start), _AHEAD)))
        for after, name in order.after(start):
            try:
                found = tree.find(directory, name)
                if found is None:
                    continue
                inode, st = found
                attr = attr_of(tree, inode, st)
            except OSError:
                # One object that cannot be looked up must not make the whole directory unreadable; a lookup says what is wrong.
                row = self._row(directory, name, after)
                if row is not None:
                    yield row
                continue
            inode.nlookup += 1
            touched[inode] = None
            entry = new_tuple(Entry, (inode.node, attr))
            yield new_tuple(DirRow, (name, attr.ino, attr.mode >> 12, after, entry))
            # The row was taken: else this would not be gone on with.
            if inode.nlookup == 1 and inode.rare is None:
                if run is None or inode.node != run.first + len(run.names):
                    run = _Run(inode.node, directory.node)
                    touched[run] = None
                run.names.append(name)
                touched.pop(inode, None)

    @staticmethod
    def _ask_ahead(directory: Directory, names: Iterator[bytes]) -> None:
        """Ask for the attributes of ``names`` together, as far as remote layers have them; one by one they take as many waits."""
        asked: dict[RemoteLayer, list[tuple[Place, Callable[..., object], tuple[bytes]]]] = {}
        for name in names:
            below = (directory.lower_names or {}).get(name)
            if below is not None and name not in (directory.upper_names or {}):
                place = directory.lowers[lower_places(below)[0]]
                if place.layer.remote is not None:
                    asked.setdefault(place.layer.remote, []).append((place.names(), stat_in, (name,)))
        for remote, questions in asked.items():
            remote.ask_all(questions)

    def _row(self, directory: Directory, name: bytes, after: int) -> DirRow | None:
        """The row of ``name`` without an entry; None if there is none."""
        kind = self._tree.kind(directory, name)
        if kind is None:
            return None
        child = directory.children.get(name)
        ino = child.ino if child is not None else self._ino(directory, name)
        if ino is None:
            return None
        if kind == kinds.REG and self._tree.has_overrides:
            kind = kinds.UNKNOWN
        return DirRow(name, ino, kind, after, None)

    def _dots(self, directory: Directory, offset: int) -> Iterator[DirRow]:
        if offset == 0:
            yield DirRow(b".", directory.ino, kinds.DIR, _AFTER_DOT, None)
        if offset <= _AFTER_DOT:
            parent = directory.parent or directory
            yield DirRow(b"..", parent.ino, kinds.DIR, _AFTER_DOTDOT, None)

    def _order(self, directory: Directory, offset: int) -> ListingOrder:
        tree = self._tree
        if directory.order is None:
            directory.order = ListingOrder(tree.names_to_list(directory))
            if directory.upper is not None:
                tree.keep_order(directory)
        elif offset == 0:
            count = len(directory.upper_names or ()) + len(directory.lower_names or ())
            if directory.order.compact(lambda: tree.names(directory), count):
                tree.keep_order(directory)
        return directory.order

    def _ino(self, directory: Directory, name: bytes) -> int | None:
        """The number that a lookup of ``name`` would show, from what the listings of the layers told.

        None for what must be looked up to tell, and cannot: OverlayFS leaves that out of the listing.
        """
        tree = self._tree
        above = (directory.upper_names or {}).get(name)
        below = (directory.lower_names or {}).get(name)
        if above is None:
            assert below is not None
            layer, ino = directory.lowers[lower_places(below)[0]].layer, lower_ino(below)
        else:
            layer, ino = tree.upper_layer, ino_in(above)
        if self._looks(directory, above, below):
            try:
                return self._looked_up_ino(directory, name)
            except OSError as error:
                if error.errno != errno.EACCES:  # which is a directory that we, too, may list but not search
                    return None
        known = tree.copied_up_inos.get(ino) if layer.is_upper or layer.is_snapshot else None
        return known or tree.inos.shown(layer.device, ino)

    @staticmethod
    def _looks(directory: Directory, above: RealName | None, below: LowerName | None) -> bool:
        """Whether the number may be that of another object than the one listed, so that only a look at it tells."""
        if above is None:
            assert below is not None
            place = directory.lowers[lower_places(below)[0]]
            return place.layer.is_snapshot and (place.impure or lower_kind(below) == kinds.DIR)
        # A merged directory has the number of its lower part, unless the upper one is opaque; with a redirect that is elsewhere.
        return directory.impure or (below is not None and lower_kind(below) == kinds.DIR and kind_in(above) == kinds.DIR)

    def _looked_up_ino(self, directory: Directory, name: bytes) -> int:
        inode = self._tree.must_find(directory, name)
        if inode.nlookup == 0:
            self._tree.nodes.release(inode)
        return inode.ino
