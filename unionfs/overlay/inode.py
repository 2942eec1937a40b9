"""Inodes of the union and the names that lead to them."""

from __future__ import annotations

from unionfs.overlay import kinds
from unionfs.overlay.data_copy import StagedWork
from unionfs.overlay.data_place import Data
from unionfs.overlay.layer import RealDir
from unionfs.overlay.listing import LowerName, RealName
from unionfs.overlay.listing_order import ListingOrder


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


class Inode:
    """An object of the union other than a directory.

    Attributes:
        node: node id; never changes.
        nlookup: how many references the kernel holds.
        ino: inode number shown to users; the same before and after copy-up.
        kind: type, of `unionfs.overlay.kinds`.
        names: its dentries (parent, name).  Empty: open but unlinked.
        place, place_name: where the real object is: a name in a real directory.  For one in the upper layer it is the name of one
        of
            ``names``, or in the index.  No longer good when ``orphan_fd`` is set.
        orphan_fd: an O_PATH descriptor of a real object of the upper layer that has no name we know; -1 otherwise.
        fd, fd_writable, recent: the descriptor for reading and writing, see `unionfs.overlay.fd_pool`.
        pins: how many passthrough opens the kernel has of the real file.
        hard_link_ino: its key in `NodeTable.hard_links`, 0 if it is not there.
        has_origin: whether the upper object has the attribute ``origin``.
        links: what is known of the lower file with several names that it is or was, if the union keeps those together.
        data: where the data of a metadata-only copy is, or is to be sought; None: in the real object itself.
        redirect: value of the attribute ``redirect`` of the upper object: where its lower part was found, if not under its name.
        copying: the part of its copy-up that is under way in another thread.
        successor: set once a copy-up had to leave this node behind (it was pinned): what now stands for it.
        predecessor: the node left behind, as long as the kernel knows it.
        lower_ctime_ns: the ctime of a lower object when it was found: tells whether somebody changed it underneath.
    """

    __slots__ = (
        "copying",
        "data",
        "fd",
        "fd_writable",
        "hard_link_ino",
        "has_origin",
        "ino",
        "kind",
        "links",
        "lower_ctime_ns",
        "names",
        "nlookup",
        "node",
        "orphan_fd",
        "pins",
        "place",
        "place_name",
        "predecessor",
        "recent",
        "redirect",
        "successor",
    )

    def __init__(self, node: int, ino: int, kind: int, place: RealDir, place_name: bytes) -> None:
        self.node = node
        self.nlookup = 0
        self.ino = ino
        self.kind = kind
        self.names: list[tuple[Directory, bytes]] = []
        self.place = place
        self.place_name = place_name
        self.orphan_fd = -1
        self.fd = -1
        self.fd_writable = False
        self.recent = False
        self.pins = 0
        self.hard_link_ino = 0
        self.has_origin = False
        self.links: LowerLinks | None = None
        self.data: Data | None = None
        self.redirect = b""
        self.copying: StagedWork | None = None
        self.successor: Inode | None = None
        self.predecessor: Inode | None = None
        self.lower_ctime_ns = 0

    @property
    def is_upper(self) -> bool:
        """Whether the real object is in the upper layer: nothing is left to copy up."""
        return self.orphan_fd >= 0 or self.place.layer.is_upper

    @property
    def is_indexed(self) -> bool:
        """Whether the index has it, so that its names come and go without its place."""
        return self.links is not None and bool(self.links.entry)


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

    @property
    def parent(self) -> Directory | None:
        """Its parent; None for the root and for a removed one."""
        return self.names[0][0] if self.names else None
