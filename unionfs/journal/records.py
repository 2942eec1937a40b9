"""The records of a journal: which kind it is, the length of all of it, the rest.  Numbers are in the machine's order and sizes,
for no other machine ever reads them: so they are packed in half the time.

What many requests write is packed right into the memory of the journal: the functions called ``write_…`` take that and where to
begin, and return where the record ends.  Where it has no room `NO_ROOM` is raised, and the memory behind the beginning may have
changed.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from enum import IntEnum

NO_ROOM = (struct.error, ValueError)

_HEADER = struct.Struct("@II")
_NODE_BODY = struct.Struct("@QQQ")
_PAIR = struct.Struct("@QQ")
_UNNAMED = struct.Struct("@QQQii")
_ORDER = struct.Struct("@QQ")
_BACKING_BODY = struct.Struct("@QQQii?")
_REPLY = struct.Struct("@Qq")


class _Named(dict[int, struct.Struct]):
    """Structs of fields and a name, by the length of that."""

    def __init__(self, fields: str) -> None:
        super().__init__()
        self._fields = fields
        self.size = struct.calcsize(fields)
        """Of the fields."""

    def __missing__(self, length: int) -> struct.Struct:
        named = self[length] = struct.Struct(f"{self._fields}{length}s")
        return named


# Each begins with kind and length.  No two fields have padding between them.
NODE = _Named("@IIQQQ")
"""`node`: kind, length, node, nlookup, parent, name."""
NODE_ALONE = _Named("@IIQIIQQQ")
"""The same with what a transaction begins with (`unionfs.journal.storage.TRANSACTION`) before it."""
_NAME = _Named("@IIQQ")
_MOVED_NODE = _Named("@IIQIIQQQ")
UNNAMED = struct.Struct("@IIQQQii")
"""`unnamed` of an object that is open: kind, length, node, nlookup, inode number, type, descriptor."""
BACKING = struct.Struct("@IIQQQii?")
"""`backing`: kind, length, node, device, inode number, id, opens, whether for writing."""


class Kind(IntEnum):
    """What a record is about."""

    NODE = 1  # a node, how often the kernel looked it up, its first name
    NAME = 2  # one more name of the node
    UNNAMED = 3  # a node without a name, and where its object is
    SUCCEEDED = 4  # a node that another one stands for
    GONE = 5  # nodes that the kernel does not know any more
    BACKING = 6  # what the kernel has open of a node in passthrough
    INO = 7  # the inode number shown for a real one
    ORDER = 8  # the names of a directory in the order of its listing
    LISTED = 9  # one more name at the end of that
    REPLY = 10  # what a request that another worker carried out is answered, once it is sent again
    ANSWERED = 11  # that it was
    NO_NAME = 12  # one name of the node less
    COUNT = 13  # how often the kernel looked a node up whose names stand elsewhere
    NUMBER = 14  # the inode number that a node goes on showing, though a look at the layers would give another
    MOVED = 15  # the inode number of the real object that an intent moves
    CLOSED = 16  # nodes of which the kernel has nothing open, and nothing registered
    RUN = 17  # nodes with ids in a row, of one directory, each of which was looked up once
    RELEASED = 18  # nodes of which the kernel has nothing open any more, but something registered


class Act(IntEnum):
    """What an intent is about."""

    CREATE = 1  # an object under a name that was free, made in place: not whole before it has its owner
    APPEAR = 2  # the same, whole at once
    REMOVE = 3  # a name goes
    MOVE = 4  # a name goes, another one comes or changes
    EXCHANGE = 5  # two names change places
    SET_XATTR = 6  # an attribute that was not there
    REMOVE_XATTR = 7  # one that was there goes


# An attribute of an enumeration takes as long as packing three numbers.
_NODE_KIND, _NAME_KIND, _MOVED_KIND = int(Kind.NODE), int(Kind.NAME), int(Kind.MOVED)
_NODE_SIZE, _NAME_SIZE, _MOVED_SIZE, _MOVED_NODE_SIZE = NODE.size, _NAME.size, _HEADER.size + 8, _MOVED_NODE.size


def node(node: int, nlookup: int, parent: int, name: bytes) -> bytes:
    """A node with its first dentry."""
    return NODE[len(name)].pack(_NODE_KIND, _NODE_SIZE + len(name), node, nlookup, parent, name)


def run(first: int, parent: int, names: list[bytes]) -> bytes:
    """`node` of several that were looked up once and have ids in a row."""
    return _record(Kind.RUN, _PAIR.pack(first, parent) + b"\0".join(names))


def name(node: int, parent: int, name: bytes) -> bytes:
    """Another dentry of the node of the record before."""
    return _record(Kind.NAME, _PAIR.pack(node, parent) + name)


def write_name(window: memoryview, at: int, node: int, parent: int, name: bytes) -> int:
    """`name`."""
    size = _NAME_SIZE + len(name)
    _NAME[len(name)].pack_into(window, at, _NAME_KIND, size, node, parent, name)
    return at + size


def no_name(node: int, parent: int, name: bytes) -> bytes:
    """A dentry that the node has no more."""
    return _record(Kind.NO_NAME, _PAIR.pack(node, parent) + name)


def count(node: int, nlookup: int) -> bytes:
    """The count of a node whose names are as they were."""
    return _record(Kind.COUNT, _PAIR.pack(node, nlookup))


def number(node: int, ino: int) -> bytes:
    """The number that a node shows, whatever the layers say; ``ino`` 0: what they say."""
    return _record(Kind.NUMBER, _PAIR.pack(node, ino))


def unnamed(node: int, nlookup: int, ino: int, kind: int, fd: int, *places: bytes) -> bytes:
    """A node without a name.  ``fd``: what its object is open as, or -1; then it lies under a path in a layer.

    ``places``: the path of that layer, and the one in it; both empty if it is open.  Of a file whose data is elsewhere two more:
    the layer and the path of that.
    """
    return _record(Kind.UNNAMED, _UNNAMED.pack(node, nlookup, ino, kind, fd) + b"\0".join(places))


def succeeded(node: int, nlookup: int, successor: int) -> bytes:
    """A node that a copy-up left behind, and the one that stands for it."""
    return _record(Kind.SUCCEEDED, _NODE_BODY.pack(node, nlookup, successor))


def moved(ino: int) -> bytes:
    """Which real object a rename is about: it has this number."""
    return _record(Kind.MOVED, ino.to_bytes(8, "little"))


def write_moved_node(window: memoryview, at: int, ino: int, node: int, nlookup: int, parent: int, name: bytes) -> int:
    """`moved`, and what the node will be then: see `node`."""
    length = len(name)
    _MOVED_NODE[length].pack_into(
        window, at, _MOVED_KIND, _MOVED_SIZE, ino, _NODE_KIND, _NODE_SIZE + length, node, nlookup, parent, name
    )
    return at + _MOVED_NODE_SIZE + length


def gone(nodes: Iterable[int]) -> bytes:
    """Nodes that are no more."""
    return _record(Kind.GONE, array("Q", nodes).tobytes())


def closed(nodes: Iterable[int]) -> bytes:
    """Nodes that nothing is registered of any more for passthrough."""
    return _record(Kind.CLOSED, array("Q", nodes).tobytes())


def released(nodes: Iterable[int]) -> bytes:
    """Nodes that have nothing open any more in passthrough."""
    return _record(Kind.RELEASED, array("Q", nodes).tobytes())


def shown_ino(real: int, shown: int) -> bytes:
    """``shown`` 0: what it says of itself holds."""
    return _record(Kind.INO, _PAIR.pack(real, shown))


def order(directory: int, generation: int, names: list[bytes]) -> bytes:
    """The order in which a directory is listed."""
    return _record(Kind.ORDER, _ORDER.pack(directory, generation) + b"\0".join(names))


def listed(directory: int, generation: int, name: bytes) -> bytes:
    """A name that comes last in the order."""
    return _record(Kind.LISTED, _ORDER.pack(directory, generation) + name)


def reply(unique: int, error: int, payload: bytes | memoryview) -> bytes:
    """The answer to a request: ``error`` is an errno, 0 for success."""
    return _record(Kind.REPLY, _REPLY.pack(unique, error) + payload)


def answered(unique: int) -> bytes:
    """The answer was sent."""
    return _record(Kind.ANSWERED, unique.to_bytes(8, "little"))


def _record(kind: Kind, body: bytes) -> bytes:
    return _HEADER.pack(kind, _HEADER.size + len(body)) + body


def split(records: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(kind, body) of each record of a transaction."""
    at = 0
    while at < len(records):
        kind, length = _HEADER.unpack_from(records, at)
        yield kind, records[at + _HEADER.size : at + length]
        at += length


def about(body: memoryview) -> int:
    """Which node (or, of `Kind.INO`, inode number) a record is about."""
    return int.from_bytes(body[:8], "little")


def nodes_body(body: memoryview) -> memoryview:
    """The node ids of `gone`, `closed` or `released`."""
    return body.cast("Q")


def node_body(body: memoryview) -> tuple[int, int, int, bytes]:
    """`node` or `succeeded`: node, nlookup, parent or successor, name."""
    return (*_NODE_BODY.unpack_from(body), bytes(body[_NODE_BODY.size :]))


def pair_body(body: memoryview) -> tuple[int, int, bytes]:
    """`name`, `no_name`, `count`, `number` or `shown_ino`: the two numbers, the name."""
    return (*_PAIR.unpack_from(body), bytes(body[_PAIR.size :]))


def run_body(body: memoryview) -> tuple[int, int, list[bytes]]:
    """The arguments of `run`."""
    return (*_PAIR.unpack_from(body), bytes(body[_PAIR.size :]).split(b"\0"))


def unnamed_body(body: memoryview) -> tuple[int, int, int, int, int, list[bytes]]:
    """The arguments of `unnamed`; four places."""
    places = bytes(body[_UNNAMED.size :]).split(b"\0")
    return (*_UNNAMED.unpack_from(body), places if len(places) == 4 else [*places, b"", b""])


def backing_body(body: memoryview) -> tuple[int, int, int, int, int, bool]:
    """Node, device, inode number, id, opens, whether for writing."""
    return _BACKING_BODY.unpack_from(body)


def order_body(body: memoryview) -> tuple[int, int, bytes]:
    """`order` or `listed`: directory, generation, and the name, or the names with NUL between them."""
    return (*_ORDER.unpack_from(body), bytes(body[_ORDER.size :]))


def reply_body(body: bytes | memoryview) -> tuple[int, int, bytes]:
    """The arguments of `reply`."""
    return (*_REPLY.unpack_from(body), bytes(body[_REPLY.size :]))
