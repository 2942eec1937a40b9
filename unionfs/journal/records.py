"""The records of a journal: a byte that says which kind it is, the length of the rest, the rest.  Numbers are in the machine's
order, for no other machine ever reads them."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from enum import IntEnum

NODE = struct.Struct("=BIQIQ")
"""The fixed part of `node`: kind, 20 and the length of the name, node, nlookup, parent.  The name follows."""
_NODE_BODY = struct.Struct("=QIQ")
_HEADER = struct.Struct("=BI")
HEADER_SIZE = _HEADER.size
_PAIR = struct.Struct("=QQ")
_UNNAMED = struct.Struct("=QIQBi")
UNNAMED = struct.Struct("=BIQIQBix")
"""`unnamed` of an object that is open: kind, length, node, nlookup, inode number, type, descriptor."""
_ORDER = struct.Struct("=QI")
_BACKING = struct.Struct("=QiIQQ?")
BACKING = struct.Struct("=BIQiIQQ?")
"""`backing`: kind, length, node, id, opens, device, inode number, whether for writing."""
_MOVED_NODE = struct.Struct("=BIQBIQIQ")
_REPLY = struct.Struct("=Qi")


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


class Act(IntEnum):
    """What an intent is about."""

    CREATE = 1  # an object under a name that was free, made in place: not whole before it has its owner
    APPEAR = 2  # the same, whole at once
    REMOVE = 3  # a name goes
    MOVE = 4  # a name goes, another one comes or changes
    EXCHANGE = 5  # two names change places
    SET_XATTR = 6  # an attribute that was not there
    REMOVE_XATTR = 7  # one that was there goes


def node(node: int, nlookup: int, parent: int, name: bytes) -> bytes:
    """A node with its first dentry."""
    return NODE.pack(Kind.NODE, 20 + len(name), node, nlookup, parent) + name


def run(first: int, parent: int, names: list[bytes]) -> bytes:
    """`node` of several that were looked up once and have ids in a row."""
    joined = b"\0".join(names)
    return _HEADER.pack(Kind.RUN, _PAIR.size + len(joined)) + _PAIR.pack(first, parent) + joined


def name(node: int, parent: int, name: bytes) -> bytes:
    """Another dentry of the node of the record before."""
    return _HEADER.pack(Kind.NAME, _PAIR.size + len(name)) + _PAIR.pack(node, parent) + name


def no_name(node: int, parent: int, name: bytes) -> bytes:
    """A dentry that the node has no more."""
    return _HEADER.pack(Kind.NO_NAME, _PAIR.size + len(name)) + _PAIR.pack(node, parent) + name


def count(node: int, nlookup: int) -> bytes:
    """The count of a node whose names are as they were."""
    return _HEADER.pack(Kind.COUNT, _PAIR.size) + _PAIR.pack(node, nlookup)


def number(node: int, ino: int) -> bytes:
    """The number that a node shows, whatever the layers say; ``ino`` 0: what they say."""
    return _HEADER.pack(Kind.NUMBER, _PAIR.size) + _PAIR.pack(node, ino)


def unnamed(node: int, nlookup: int, ino: int, kind: int, fd: int, *places: bytes) -> bytes:
    """A node without a name.  ``fd``: what its object is open as, or -1; then it lies under a path in a layer.

    ``places``: the path of that layer, and the one in it; both empty if it is open.  Of a file whose data is elsewhere two more:
    the layer and the path of that.
    """
    joined = b"\0".join(places)
    return _HEADER.pack(Kind.UNNAMED, _UNNAMED.size + len(joined)) + _UNNAMED.pack(node, nlookup, ino, kind, fd) + joined


def succeeded(node: int, nlookup: int, successor: int) -> bytes:
    """A node that a copy-up left behind, and the one that stands for it."""
    return _HEADER.pack(Kind.SUCCEEDED, _NODE_BODY.size) + _NODE_BODY.pack(node, nlookup, successor)


def moved(ino: int) -> bytes:
    """Which real object a rename is about: it has this number."""
    return _HEADER.pack(Kind.MOVED, 8) + ino.to_bytes(8, "little")


def moved_node(ino: int, node: int, nlookup: int, parent: int, name: bytes) -> bytes:
    """`moved`, and what the node will be then: see `node`."""
    return _MOVED_NODE.pack(Kind.MOVED, 8, ino, Kind.NODE, 20 + len(name), node, nlookup, parent) + name


def gone(nodes: Iterable[int]) -> bytes:
    """Nodes that are no more."""
    return _nodes(Kind.GONE, nodes)


def closed(nodes: Iterable[int]) -> bytes:
    """Nodes that nothing is registered of any more for passthrough."""
    return _nodes(Kind.CLOSED, nodes)


def _nodes(kind: Kind, nodes: Iterable[int]) -> bytes:
    body = array("Q", nodes).tobytes()
    return _HEADER.pack(kind, len(body)) + body


def shown_ino(real: int, shown: int) -> bytes:
    """``shown`` 0: what it says of itself holds."""
    return _HEADER.pack(Kind.INO, _PAIR.size) + _PAIR.pack(real, shown)


def order(directory: int, generation: int, names: list[bytes]) -> bytes:
    """The order in which a directory is listed."""
    listed = b"\0".join(names)
    return _HEADER.pack(Kind.ORDER, _ORDER.size + len(listed)) + _ORDER.pack(directory, generation) + listed


def listed(directory: int, generation: int, name: bytes) -> bytes:
    """A name that comes last in the order."""
    return _HEADER.pack(Kind.LISTED, _ORDER.size + len(name)) + _ORDER.pack(directory, generation) + name


def reply(unique: int, error: int, payload: bytes | memoryview) -> bytes:
    """The answer to a request: ``error`` is an errno, 0 for success."""
    return _HEADER.pack(Kind.REPLY, _REPLY.size + len(payload)) + _REPLY.pack(unique, error) + payload


def answered(unique: int) -> bytes:
    """The answer was sent."""
    return _HEADER.pack(Kind.ANSWERED, 8) + unique.to_bytes(8, "little")


def split(records: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(kind, body) of each record of a transaction."""
    at = 0
    while at < len(records):
        kind, length = _HEADER.unpack_from(records, at)
        at += _HEADER.size
        yield kind, records[at : at + length]
        at += length


def about(body: memoryview) -> int:
    """Which node (or, of `Kind.INO`, inode number) a record is about."""
    return int.from_bytes(body[:8], "little")


def nodes_body(body: memoryview) -> memoryview:
    """The node ids of `gone` or `closed`."""
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
    """Node, id, opens, device, inode number, whether for writing."""
    return _BACKING.unpack_from(body)


def order_body(body: memoryview) -> tuple[int, int, bytes]:
    """`order` or `listed`: directory, generation, and the name, or the names with NUL between them."""
    return (*_ORDER.unpack_from(body), bytes(body[_ORDER.size :]))


def reply_body(body: bytes | memoryview) -> tuple[int, int, bytes]:
    """The arguments of `reply`."""
    return (*_REPLY.unpack_from(body), bytes(body[_REPLY.size :]))
