"""Inodes of the union and the names that lead to them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Generic, TypeVar

from unionfs.filesystem import ROOT_ID
from unionfs.journal import records
from unionfs.journal.journal import Finished, Recorded, write_transaction
from unionfs.overlay import kinds
from unionfs.overlay.data_copy import StagedWork
from unionfs.overlay.data_place import Data
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import LowerName, RealName
from unionfs.overlay.listing_order import ListingOrder

_T = TypeVar("_T")

_CTIME_BITS = 27
_CTIME_MARK = (1 << _CTIME_BITS) - 1
_LARGEST_PRIME = (1 << _CTIME_BITS) - 39  # not a power of two: the low bits of a ctime may always be the same
_HAS_ORIGIN = 1 << _CTIME_BITS
INO_SHIFT = _CTIME_BITS + 1
MANY_NAMES = 16
"""The names of one that has more besides its first are written to the journal as they come and go."""

_NODE, _NODE_KIND, _NODE_SIZE = records.NODE, int(records.Kind.NODE), records.NODE.size
_ALONE, _BEGINNING = records.NODE_ALONE, records.NODE_ALONE.size - records.NODE.size
_write_unnamed, _UNNAMED_KIND, _UNNAMED_SIZE = records.UNNAMED.pack_into, int(records.Kind.UNNAMED), records.UNNAMED.size
_BELOW_INO = (1 << INO_SHIFT) - 1


class LowerLinks:
    """A lower file with several names, all of which lead to one inode.

    Attributes:
        key: (``st_dev``, ``st_ino``) of the lower file.
        nlink: its link count in the lower layer.
        entry: what it is called in the index; empty: it was not copied up.
        offset: how many names the union shows more than the real object has.
    """

    __slots__ = ("entry", "key", "nlink", "offset")

    def __init__(self, key: tuple[int, int], nlink: int) -> None:
        self.key = key
        self.nlink = nlink
        self.entry = b""
        self.offset = 0


@dataclass(slots=True, eq=False)
class _Rare:
    """What most inodes never have, kept apart from those that have it; the fields are those of `Inode`."""

    hard_link_ino: int = 0
    links: LowerLinks | None = None
    data: Data | None = None
    redirect: bytes = b""
    copying: StagedWork | None = None
    successor: Inode | None = None
    predecessor: Inode | None = None
    carried: int = 0
    other_names: dict[tuple[Directory, bytes], None] | None = None

    @property
    def is_recorded_otherwise(self) -> bool:
        """Whether the journal has something else of it than all its names."""
        return self.successor is not None or len(self.other_names or ()) > MANY_NAMES


class _RareField(Generic[_T]):
    """An attribute of an inode that is kept in `Inode.rare`; ``default`` is its value in all inodes that have none of them."""

    def __init__(self, default: _T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, inode: Inode, owner: type) -> _T:
        if inode.rare is None:
            return self._default
        value: _T = getattr(inode.rare, self._name)
        return value

    def __set__(self, inode: Inode, value: _T) -> None:
        if inode.rare is None:
            if value is self._default:
                return
            inode.rare = _Rare()
        setattr(inode.rare, self._name, value)


class Inode(Recorded):
    """An object of the union other than a directory.

    There may be millions, so each slot counts: what few inodes have is in `rare`, and comes by the descriptors below.  Where an
    operation on every inode would pay for these, it looks at `rare` first.

    Attributes:
        node: node id; never changes.
        nlookup: how many references the kernel holds.
        kind: type, of `unionfs.overlay.kinds`.
        parent, name: its dentry, the first if it has several; ``parent`` is None for what has no name (and the root).
        place, place_name: where the real object is: a name in a real directory.  For one in the upper layer it is the name of one
        of
            ``names``, or in the index.  No longer good when ``orphan_fd`` is set.
        orphan_fd: an O_PATH descriptor of a real object of the upper layer that has no name we know; -1 otherwise.
        fd, fd_writable, recent: the descriptor for reading and writing, see `unionfs.overlay.fd_pool`.
        pins: how many passthrough opens the kernel has of the real file.
        packed: ``ino`` (above INO_SHIFT), ``has_origin`` and ``lower_ctime`` in one int.
        rare: the fields below; None: all have their defaults.
    """

    __slots__ = (
        "fd",
        "fd_writable",
        "kind",
        "name",
        "nlookup",
        "node",
        "orphan_fd",
        "packed",
        "parent",
        "pins",
        "place",
        "place_name",
        "rare",
        "recent",
    )

    hard_link_ino = _RareField(0)
    """Its key in `NodeTable.hard_links`, 0 if it is not there."""
    links = _RareField[LowerLinks | None](None)
    """What is known of the lower file with several names that it is or was, if the union keeps those together."""
    data = _RareField[Data | None](None)
    """Where the data of a metadata-only copy is, or is to be sought; None: in the real object itself."""
    redirect = _RareField(b"")
    """Value of the attribute ``redirect`` of the upper object: where its lower part was found, if not under its name."""
    copying = _RareField[StagedWork | None](None)
    """The part of its copy-up that is under way in another thread."""
    successor = _RareField["Inode | None"](None)
    """Set once a copy-up had to leave this node behind (it was pinned): what now stands for it."""
    predecessor = _RareField["Inode | None"](None)
    """The node left behind, as long as the kernel knows it."""
    carried = _RareField(0)
    """The generation of the layer that its file was in when a snapshot carried it on into a new upper; 0: it was not."""
    other_names = _RareField["dict[tuple[Directory, bytes], None] | None"](None)
    """Its dentries but the first, as they were found; there may be tens of thousands of them.  None: there are none."""

    def __init__(self, node: int, ino: int, kind: int, place: RealDir, place_name: bytes, lower_ctime: int = 0) -> None:
        self.node = node
        self.nlookup = 0
        self.kind = kind
        self.parent: Directory | None = None
        self.name = b""
        self.place = place
        self.place_name = place_name
        self.orphan_fd = -1
        self.fd = -1
        self.fd_writable = False
        self.recent = False
        self.pins = 0
        self.rare: _Rare | None = None
        # An int takes 32 bytes up to 60 bits, a slot 8.
        self.packed = ino << INO_SHIFT | lower_ctime

    @property
    def ino(self) -> int:
        """Inode number shown to users; the same before and after copy-up."""
        return self.packed >> INO_SHIFT

    @ino.setter
    def ino(self, ino: int) -> None:
        self.packed = ino << INO_SHIFT | self.packed & _BELOW_INO

    @property
    def has_origin(self) -> bool:
        """Whether the upper object has the attribute ``origin``."""
        return self.packed & _HAS_ORIGIN != 0

    @has_origin.setter
    def has_origin(self, has: bool) -> None:
        self.packed = self.packed & ~_HAS_ORIGIN | (_HAS_ORIGIN if has else 0)

    @property
    def lower_ctime(self) -> int:
        """The `ctime_mark` of a lower object when it was found: tells whether somebody changed it underneath."""
        return self.packed & _CTIME_MARK

    @lower_ctime.setter
    def lower_ctime(self, mark: int) -> None:
        self.packed = self.packed & ~_CTIME_MARK | mark

    @property
    def names(self) -> tuple[tuple[Directory, bytes], ...]:
        """Its dentries (parent, name).  Empty: open but unlinked."""
        if self.parent is None:
            return ()
        dentry = (self.parent, self.name)
        return (dentry,) if self.rare is None else (dentry, *(self.rare.other_names or ()))

    def another_name(self, parent: Directory, name: bytes) -> tuple[Directory, bytes] | None:
        """A dentry of it that is not this one; None if it has no other."""
        if self.parent is not None and (self.parent, self.name) != (parent, name):
            return self.parent, self.name
        return next(iter(self.other_names or ()), None)

    def add_name(self, parent: Directory, name: bytes) -> None:
        """It has one more dentry than its first."""
        if self.other_names is None:
            self.other_names = {}
        self.other_names[parent, name] = None

    def remove_name(self, parent: Directory, name: bytes) -> None:
        """It has this dentry no more."""
        if self.rare is None:
            assert (self.parent, self.name) == (parent, name)
            self.parent, self.name = None, b""
            return
        others = self.rare.other_names or {}
        if (self.parent, self.name) != (parent, name):
            others.pop((parent, name), None)
            return
        self.parent, self.name = next(iter(others), (None, b""))
        if self.parent is not None:
            del others[self.parent, self.name]

    def remove_names(self) -> None:
        """It has no dentry any more."""
        self.parent, self.name = None, b""
        if self.rare is not None:
            self.rare.other_names = None

    @property
    def is_upper(self) -> bool:
        """Whether the real object is in the upper layer: nothing is left to copy up."""
        return self.place.layer.is_upper or self.orphan_fd >= 0

    @property
    def has_own_fd(self) -> bool:
        """Whether ``fd`` is open, and that of the real object itself: that of a metadata-only copy is of where its data is."""
        return self.fd >= 0 and (self.rare is None or self.rare.data is None)

    def write(self, window: memoryview, at: int) -> int:
        """What the journal keeps of it, see `unionfs.journal.journal.Recorded`."""
        parent, rare = self.parent, self.rare
        if parent is None or (rare is not None and rare.is_recorded_otherwise):
            return self._write_rare(window, at)
        name = self.name
        length = len(name)
        size = _NODE_SIZE + length
        _NODE[length].pack_into(window, at, _NODE_KIND, size, self.node, self.nlookup, parent.node, name)
        return at + size if rare is None else self._write_others(rare, window, at + size)

    def write_transaction(self, window: memoryview, at: int, answer: int, unique: int) -> int:
        """See `unionfs.journal.journal.Recorded`.  In one piece, for each new name comes by here."""
        parent, rare = self.parent, self.rare
        if parent is None or (rare is not None and rare.is_recorded_otherwise):
            return write_transaction(self, window, at, answer, unique)
        name = self.name
        length = len(name)
        size = _NODE_SIZE + length
        end = at + _BEGINNING + size
        if rare is not None:
            end = self._write_others(rare, window, end)
        _ALONE[length].pack_into(
            window, at, answer, end - at, unique, _NODE_KIND, size, self.node, self.nlookup, parent.node, name
        )
        return end

    def _write_others(self, rare: _Rare, window: memoryview, at: int) -> int:
        for other, name in rare.other_names or ():
            at = records.write_name(window, at, self.node, other.node, name)
        return at

    def _write_rare(self, window: memoryview, at: int) -> int:
        if self.rare is not None and self.rare.successor is not None:
            return Finished(records.succeeded(self.node, self.nlookup, self.rare.successor.node)).write(window, at)
        if self.parent is None:
            return self.write_unnamed(window, at) if self.node != ROOT_ID else at
        return Finished(records.count(self.node, self.nlookup)).write(window, at)

    def whole_record(self) -> Inode | Finished:
        """The inode itself, or, where `write` leaves its names out, the record with these."""
        rare, parent = self.rare, self.parent
        if rare is None or parent is None or rare.successor is not None or len(rare.other_names or ()) <= MANY_NAMES:
            return self
        first = records.node(self.node, self.nlookup, parent.node, self.name)
        others = [records.name(self.node, parent.node, name) for parent, name in rare.other_names or ()]
        return Finished(first + b"".join(others))

    def write_unnamed(self, window: memoryview, at: int) -> int:
        """`write` as if it had no name any more."""
        nlookup, fd = self.nlookup, self.orphan_fd
        data = None if self.rare is None else self.rare.data
        if fd >= 0 and data is None:
            ino = self.packed >> INO_SHIFT
            _write_unnamed(window, at, _UNNAMED_KIND, _UNNAMED_SIZE, self.node, nlookup, ino, self.kind, fd)
            return at + _UNNAMED_SIZE
        own = (b"", b"") if fd >= 0 else self.place.recorded(self.place_name)
        places = (*own, *(() if data is None else data.recorded()))
        return Finished(records.unnamed(self.node, nlookup, self.ino, self.kind, fd, *places)).write(window, at)

    @property
    def is_held(self) -> bool:
        """Whether the kernel may use it: by its own node id, or by that of one for which it stands."""
        return self.nlookup > 0 or (self.rare is not None and self.predecessor is not None)

    @property
    def is_indexed(self) -> bool:
        """Whether the index has it, so that its names come and go without its place."""
        return self.rare is not None and self.rare.links is not None and bool(self.rare.links.entry)


class Directory(Inode):
    """A directory of the union.

    Attributes (besides those of `Inode`; ``place`` is the parent of the topmost real directory):
        upper: its real directory in the upper layer, if it has one.
        lowers: the real directories of lower layers that it shows, top first.
        upper_names: the names in ``upper``, whiteouts among them; None until they are needed.  Kept up to date, for nobody else
        writes there.
        lower_names: what ``lowers`` show; None until needed; never changes.
        children: the inodes known by name.
        impure: whether ``upper`` is marked as possibly holding objects with an origin; known once ``upper_names`` is.
        order: in what order and with which offsets it is listed; None until it is.
    """

    __slots__ = ("children", "impure", "lower_names", "lowers", "order", "upper", "upper_names")

    def __init__(self, node: int, ino: int, upper: RealDir | None, lowers: tuple[RealDir, ...]) -> None:
        top = upper or lowers[0]
        super().__init__(node, ino, kinds.DIR, top.parent or top, top.name)
        self.upper = upper
        self.lowers = lowers
        self.upper_names: dict[bytes, RealName] | None = None
        self.lower_names: dict[bytes, LowerName] | None = None
        self.children: dict[bytes, Inode] = {}
        self.impure = False
        self.order: ListingOrder | None = None

    @property
    def is_upper(self) -> bool:
        """Whether it has been copied up or was made in the upper layer."""
        return self.upper is not None or self.orphan_fd >= 0

    @property
    def is_merged(self) -> bool:
        """Whether more than one real directory makes it up."""
        return len(self.lowers) + (self.upper is not None) > 1

    @property
    def top(self) -> RealDir:
        """The real directory that gives it its attributes."""
        return self.upper or self.lowers[0]


def ctime_mark(st: os.stat_result) -> int:
    """A fingerprint of the ctime, as short as `Inode.lower_ctime` keeps it."""
    return st.st_ctime_ns % _LARGEST_PRIME
