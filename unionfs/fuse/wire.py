"""The wire format of FUSE: bytes to tuples and back.  Does no I/O and knows no filesystem.

Everything is in the machine's byte order and with the natural alignment that the structures of include/uapi/linux/fuse.h were
laid out for, without implicit padding; hence ``=`` and explicit ``x`` everywhere.  A request is a `REQUEST_HEADER` and a
body; the `Layout` of each body stands here by the name of its C structure.  A reply is a `REPLY_HEADER` and a payload.

Offsets and lengths in a file are ``q`` though the structures have them without a sign: they are what a client passed as loff_t,
and the kernel lets negative ones through (lseek(2) with SEEK_DATA).  So they reach the system call, which refuses them.
The same goes for flags that the system call takes as an int: ``i``.

Bodies are longer than their layout where a name follows, and in newer kernels than this was written for; so decoding takes
what it knows from the front and ignores what follows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from unionfs.filesystem import Attr, DirRow, Notice, StaleAttributes, StaleName, StatFs
from unionfs.fuse.protocol import InitFlag, NotifyCode

Body = memoryview | bytes


class MalformedRequestError(Exception):
    """The bytes are no request as the protocol defines it.  The only thing that decoding raises, whatever the bytes."""


class Layout(struct.Struct):
    """One fixed structure."""

    def decode(self, body: Body, offset: int = 0) -> tuple[Any, ...]:
        """The fields from ``offset`` on.

        Raises:
            MalformedRequestError: the body is too short.
        """
        try:
            return self.unpack_from(body, offset)
        except struct.error as error:
            raise MalformedRequestError(f"body of {len(body)} bytes, {offset + self.size} expected") from error


# -- requests -------------------------------------------------------------------------------------------------------

RequestHeader = tuple[int, int, int, int, int, int, int, int]
"""length, opcode, unique, node, uid, gid, pid, length of extensions in units of 8 bytes"""

REQUEST_HEADER = Layout("=IIQQIIIHxx")
INIT_IN = Layout("=IIIII")  # major, minor, max_readahead, flags, flags2; the last since 7.36 only
INIT_IN_BASE = Layout("=IIII")
GETATTR_IN = Layout("=I12x")
FORGET_IN = Layout("=Q")
INTERRUPT_IN = Layout("=Q")  # unique of the request whose caller got a signal
BATCH_FORGET_IN = Layout("=I4x")  # count, then as many of FORGET_ONE
FORGET_ONE = Layout("=QQ")  # node, nlookup
# valid, fh, size, lock_owner, atime, mtime, ctime (signed: before 1970), their nanoseconds, mode, uid, gid
SETATTR_IN = Layout("=I4xQqQqqqIIII4xII4x")
MKNOD_IN = Layout("=III4x")  # mode, rdev, umask; name
MKDIR_IN = Layout("=II")  # mode, umask; name
RENAME_IN = Layout("=Q")  # new parent; old name, new name
RENAME2_IN = Layout("=QI4x")  # new parent, flags; old name, new name
LINK_IN = Layout("=Q")  # node; name
OPEN_IN = Layout("=II")  # flags of open(2), OPEN_KILL_SUIDGID
CREATE_IN = Layout("=IIII")  # flags of open(2), mode, umask, OPEN_KILL_SUIDGID; name
READ_IN = Layout("=8xqI20x")  # (fh), offset, size
WRITE_IN = Layout("=8xqII16x")  # (fh), offset, size, write_flags; data
FSYNC_IN = Layout("=8xI4x")  # (fh), fsync_flags
SETXATTR_IN = Layout("=IiII")  # size, flags, setxattr_flags; name, value.  With SETXATTR_EXT
SETXATTR_IN_COMPAT = Layout("=Ii")  # size, flags; name, value
GETXATTR_IN = Layout("=I4x")  # size; name
FALLOCATE_IN = Layout("=8xqqi4x")  # (fh), offset, length, mode
LSEEK_IN = Layout("=8xqi4x")  # (fh), offset, whence
COPY_FILE_RANGE_IN = Layout("=8xqQ8xqqQ")  # (fh), offset, target node, (its fh), its offset, length, flags
IOCTL_IN = Layout("=8xIIQII")  # (fh), flags, command, argument, size of the data that follows, most bytes to reply; data

_FORBIDDEN_NAMES = frozenset((b"", b".", b".."))


def decode_strings(body: Body, offset: int, count: int) -> list[bytes]:
    """``count`` strings that stand one after the other from ``offset`` on, each ended by a NUL.

    Raises:
        MalformedRequestError: there are fewer.
    """
    strings = bytes(body[offset:]).split(b"\0", count)
    if len(strings) <= count:
        raise MalformedRequestError(f"{len(strings) - 1} strings, {count} expected")
    return strings[:count]


def decode_name(body: Body, offset: int = 0) -> bytes:
    """One file name; see `check_name`."""
    raw = bytes(body[offset:])
    end = raw.find(0)
    if end < 0:
        raise MalformedRequestError("a name without its NUL")
    return check_name(raw[:end])


def check_name(name: bytes) -> bytes:
    """The name, if it is one of a directory entry.

    ``.`` and ``..`` are asked for only by NFS export, which is not negotiated, and never belong to the filesystem contract.

    Raises:
        MalformedRequestError: it is none.
    """
    if name in _FORBIDDEN_NAMES or b"/" in name:
        raise MalformedRequestError(f"{name!r} is no name of a directory entry")
    return name


def decode_write(body: memoryview) -> tuple[int, int, memoryview]:
    """offset, write_flags and the data of a WRITE.  The data is a view of ``body``, not a copy."""
    offset, size, write_flags = WRITE_IN.decode(body)
    data = body[WRITE_IN.size : WRITE_IN.size + size]
    if len(data) != size:
        raise MalformedRequestError(f"{len(data)} bytes of data, {size} announced")
    return offset, write_flags, data


def decode_setxattr(body: Body, extended: bool) -> tuple[bytes, bytes, int, int]:
    """name, value, flags and setxattr_flags of a SETXATTR.  ``extended``: SETXATTR_EXT was negotiated."""
    layout = SETXATTR_IN if extended else SETXATTR_IN_COMPAT
    size, flags, *rest = layout.decode(body)
    (name,) = decode_strings(body, layout.size, 1)
    start = layout.size + len(name) + 1
    value = bytes(body[start : start + size])
    if len(value) != size:
        raise MalformedRequestError(f"a value of {len(value)} bytes, {size} announced")
    return name, value, flags, rest[0] if rest else 0


def decode_batch_forget(body: Body) -> list[tuple[Any, ...]]:
    """(node, nlookup) of each node in a BATCH_FORGET."""
    (count,) = BATCH_FORGET_IN.decode(body)
    start = BATCH_FORGET_IN.size
    if len(body) < start + count * FORGET_ONE.size:
        raise MalformedRequestError(f"{len(body)} bytes for {count} nodes to forget")
    return list(FORGET_ONE.iter_unpack(body[start : start + count * FORGET_ONE.size]))


class InitRequest(NamedTuple):
    """What the kernel offers in INIT."""

    major: int
    minor: int
    max_readahead: int
    flags: InitFlag


def decode_init(body: Body) -> InitRequest:
    """The body of INIT; an old kernel's is shorter and has no flags from bit 32 on."""
    major, minor, max_readahead, flags, *rest = (INIT_IN if len(body) >= INIT_IN.size else INIT_IN_BASE).decode(body)
    flags2 = rest[0] if rest and flags & InitFlag.INIT_EXT else 0
    return InitRequest(major, minor, max_readahead, InitFlag(flags | flags2 << 32))


# -- replies --------------------------------------------------------------------------------------------------------

REPLY_HEADER = struct.Struct("=IiQ")  # length, -errno (or a NotifyCode), unique (0: a notification)
_ATTR = "QQQqqqIIIIIIIIII"  # struct fuse_attr, in the order of Attr
ENTRY_OUT = struct.Struct("=QQQQII" + _ATTR)  # node, generation, seconds the entry and the attributes are valid, nanoseconds
ATTR_OUT = struct.Struct("=QI4x" + _ATTR)  # seconds the attributes are valid, nanoseconds
OPEN_OUT = struct.Struct("=QIi")  # fh, OpenFlag, backing id
WRITE_OUT = struct.Struct("=I4x")
STATFS_OUT = struct.Struct("=QQQQQIII28x")
GETXATTR_OUT = struct.Struct("=I4x")
LSEEK_OUT = struct.Struct("=Q")
COPY_FILE_RANGE_64_OUT = struct.Struct("=Q")
IOCTL_OUT = struct.Struct("=iIII")  # what ioctl(2) returns, flags, two counts that CUSE only uses; data
_TIME = "qI4x"
# seconds the attributes are valid, nanoseconds; struct fuse_statx: mask, blksize, attributes, nlink, uid, gid, mode, ino, size,
# blocks, mask of attributes, atime, btime, ctime, mtime, major and minor of rdev and of the device
STATX_OUT = struct.Struct("=QI20x" + "IIQIIIH2xQQQQ" + 4 * _TIME + "IIII112x")
DIRENT = struct.Struct("=QQII")  # ino, offset of the next, length of the name, type; name, padded to 8 bytes
DIRENTPLUS = struct.Struct(ENTRY_OUT.format + DIRENT.format[1:])
DIRENTPLUS_SIZE = DIRENTPLUS.size
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages, map_alignment,
# flags2, max_stack_depth, request_timeout
INIT_OUT = struct.Struct("=IIIIHHIIHHIIH22x")
INVAL_INODE_OUT = struct.Struct("=Qqq")  # node, offset, length
INVAL_ENTRY_OUT = struct.Struct("=QII")  # parent, length of the name, flags; then the name and a NUL
PRUNE_OUT = struct.Struct("=I12x")  # how many nodes; then their ids
BACKING_MAP = struct.Struct("=iIQ")  # descriptor, flags, padding
BACKING_ID = struct.Struct("=I")
NODE_ID = struct.Struct("=Q")

NO_ENTRY = bytes(ENTRY_OUT.size)
"""In READDIRPLUS: "this row has no entry", for ``.`` and ``..``."""


def encode_reply_header(unique: int, length: int) -> bytes:
    """The header of a reply to the request ``unique`` that is no error and has a payload of ``length`` bytes."""
    return REPLY_HEADER.pack(REPLY_HEADER.size + length, 0, unique)


class Validity(NamedTuple):
    """A validity time as the protocol has it."""

    seconds: int
    nanoseconds: int


def validity(seconds: float) -> Validity:
    """Split a time in seconds."""
    whole = int(seconds)
    return Validity(whole, int((seconds - whole) * 1e9))


EntryValidity = tuple[int, int, int, int]
"""How long an entry and its attributes are valid, in the order of ``struct fuse_entry_out``: their seconds, their nanoseconds."""


def entry_validity(entry: Validity, attr: Validity) -> EntryValidity:
    """The two in one."""
    return entry.seconds, attr.seconds, entry.nanoseconds, attr.nanoseconds


# Whole tuples are put together below rather than their parts unpacked: these three run for every object that is looked at.


def encode_entry(node: int, attr: Attr, valid: EntryValidity) -> bytes:
    """``struct fuse_entry_out``.  The generation is 0: node ids are never used again."""
    return ENTRY_OUT.pack(*((node, 0) + valid + attr))  # noqa: RUF005


def encode_no_entry(negative_valid: Validity) -> bytes:
    """The answer to LOOKUP of a name that does not exist, which the kernel may remember (node id 0; fs/fuse/dir.c)."""
    return ENTRY_OUT.pack(0, 0, *entry_validity(negative_valid, validity(0)), *(0,) * len(Attr._fields))


def encode_attr(attr: Attr, attr_valid: Validity) -> bytes:
    """``struct fuse_attr_out``."""
    return ATTR_OUT.pack(*(attr_valid + attr))


def encode_direntplus(row: DirRow, node: int, attr: Attr, valid: EntryValidity) -> bytes:
    """``struct fuse_direntplus`` with its name, of a row that has an entry."""
    name, ino, kind, offset, _ = row
    length = len(name)
    fields = (node, 0) + valid + attr + (ino, offset, length, kind)  # noqa: RUF005
    return DIRENTPLUS.pack(*fields) + name + _PADDING[length & 7]


_STATX_BASIC_STATS = 0x7FF  # include/uapi/linux/stat.h
_STATX_BTIME = 0x800


def encode_statx(attr: Attr, btime_ns: int | None, attr_valid: Validity) -> bytes:
    """``struct fuse_statx_out``.  ``btime_ns``: nanoseconds since the epoch, None if there is none."""
    mask = _STATX_BASIC_STATS if btime_ns is None else _STATX_BASIC_STATS | _STATX_BTIME
    rdev = attr.rdev  # new_encode_dev() of include/linux/kdev_t.h
    major, minor = rdev >> 8 & 0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFF00
    what = (mask, attr.blksize, 0, attr.nlink, attr.uid, attr.gid, attr.mode, attr.ino, attr.size, attr.blocks, 0)
    birth = divmod(btime_ns or 0, 1_000_000_000)
    times = (attr.atime, attr.atimensec, *birth, attr.ctime, attr.ctimensec, attr.mtime, attr.mtimensec)
    return STATX_OUT.pack(*attr_valid, *what, *times, major, minor, 0, 0)


def encode_statfs(figures: StatFs) -> bytes:
    """``struct fuse_statfs_out``; its fields stand in the order of `StatFs`."""
    return STATFS_OUT.pack(*figures)


def padding(length: int) -> int:
    """How many bytes make ``length`` a multiple of 8."""
    return -length & 7


_PADDING = [bytes(padding(length)) for length in range(8)]


def encode_dirent(row: DirRow) -> bytes:
    """``struct fuse_dirent`` with its name."""
    name = row.name
    return DIRENT.pack(row.ino, row.offset, len(name), row.kind) + name + bytes(padding(len(name)))


def encode_init(
    minor: int, max_readahead: int, flags: InitFlag, max_background: int, max_write: int, max_pages: int, max_stack_depth: int
) -> bytes:
    """``struct fuse_init_out``.  ``max_write`` and ``max_readahead`` in bytes, ``max_pages`` per request."""
    congestion_threshold = max_background * 3 // 4  # where fs/fuse puts it by default
    return INIT_OUT.pack(
        7,
        minor,
        max_readahead,
        flags & 0xFFFFFFFF,
        max_background,
        congestion_threshold,
        max_write,
        1,  # time_gran: times are exact to a nanosecond
        max_pages,
        0,
        flags >> 32,
        max_stack_depth,
        0,
    )


def encode_notice(notice: Notice) -> bytes:
    """The whole message that makes the kernel forget what is no longer so."""
    if isinstance(notice, StaleName):
        name = notice.name
        payload = INVAL_ENTRY_OUT.pack(notice.parent, len(name), 0) + name + b"\0"
        return REPLY_HEADER.pack(REPLY_HEADER.size + len(payload), NotifyCode.INVAL_ENTRY, 0) + payload
    # Attributes and ACLs in any case; a negative offset spares the data, 0 and length 0 means all of it.
    payload = INVAL_INODE_OUT.pack(notice.node, -1 if isinstance(notice, StaleAttributes) else 0, 0)
    return REPLY_HEADER.pack(REPLY_HEADER.size + len(payload), NotifyCode.INVAL_INODE, 0) + payload


def encode_resend() -> bytes:
    """The whole message that has all unanswered requests sent again (where INIT agreed on HAS_RESEND)."""
    return REPLY_HEADER.pack(REPLY_HEADER.size, NotifyCode.RESEND, 0)


def encode_inc_epoch() -> bytes:
    """The whole message that has every name looked up again before it is used (since 7.44)."""
    return REPLY_HEADER.pack(REPLY_HEADER.size, NotifyCode.INC_EPOCH, 0)


def encode_prune(nodes: Sequence[int]) -> bytes:
    """The whole message that asks the kernel to forget those of ``nodes`` that nobody uses (since 7.45)."""
    payload = PRUNE_OUT.pack(len(nodes)) + struct.pack(f"={len(nodes)}Q", *nodes)
    return REPLY_HEADER.pack(REPLY_HEADER.size + len(payload), NotifyCode.PRUNE, 0) + payload


def encode_xattr_names(names: Sequence[bytes]) -> bytes:
    """The value of LISTXATTR: each name ended by a NUL."""
    return b"".join([name + b"\0" for name in names])


def direntplus_nodes(payload: bytes) -> list[int]:
    """The node ids that a READDIRPLUS payload counts a lookup for."""
    nodes = []
    offset = 0
    while offset < len(payload):
        (node,) = NODE_ID.unpack_from(payload, offset)
        if node:
            nodes.append(node)
        _, _, length, _ = DIRENT.unpack_from(payload, offset + ENTRY_OUT.size)
        offset += DIRENTPLUS_SIZE + length + padding(length)
    return nodes
