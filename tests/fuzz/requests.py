"""Requests of the kernel: as it sends them, with values that it never sends, damaged, and made up."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

import hypothesis.strategies as st

from tests.fuse.kernel_end import KernelEnd
from tests.fuzz.strategies import damaged
from unionfs.filesystem import Filesystem
from unionfs.fuse import wire
from unionfs.fuse.device import BUFFER_SIZE
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.handshake import connect
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.session import SessionSettings
from unionfs.linux.inode_flags import FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS

ROOM = 4 << 20
"""Bytes that the socket holds in each direction: a reply to the longest READ, and notices beside it."""

UNANSWERED = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)


class Kernel(KernelEnd):
    """One that can be waited for."""

    def fileno(self) -> int:
        """For `trio.lowlevel.wait_readable`."""
        return self._connection.fileno()


class Request(NamedTuple):
    """One request; ``lie`` is added to the length that its header says."""

    opcode: int
    node: int
    body: bytes
    lie: int = 0


def _numbers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    edges = [0, 1, 2, 3, 5, 8, 255, 256, 4095, 4096, 4097, 0o644, 0o40755, 0o100644, 0o120777, 0o20666, 0o10600, 0o140600]
    edges += [(1 << power) + more for power in (16, 31, 32, 40, 62, 63) for more in (-1, 0)]
    edges += [lowest, highest, highest - 1]
    small = st.integers(0, 16)
    return small | st.sampled_from([edge for edge in edges if lowest <= edge <= highest]) | st.integers(lowest, highest)


_WIDTHS = {"H": (16, False), "I": (32, False), "i": (32, True), "Q": (64, False), "q": (64, True)}


def _fields(layout: wire.Layout) -> st.SearchStrategy[bytes]:
    """The structure with any values in its fields."""
    letters = "".join(
        letter * int(count or "1") for count, letter in re.findall(r"(\d*)([HIiQqx])", layout.format) if letter != "x"
    )
    return st.tuples(*(_numbers(*_WIDTHS[letter]) for letter in letters)).map(lambda values: layout.pack(*values))


KNOWN_NAMES = (b"file", b"dir", b"both", b"deep", b"link", b"fifo", b"hard", b"other")
_NAMES = (
    st.sampled_from(KNOWN_NAMES)
    | st.sampled_from([b"", b".", b"..", b"a/b", b"new", b"n" * 255, b"n" * 256, b".wh.file", b".wh..wh..opq", b"\xff"])
    | st.binary(max_size=6)
).map(lambda name: name + b"\0")
_ATTRIBUTES = (
    st.sampled_from(
        [
            b"user.a",
            b"user.",
            b"user.overlay.opaque",
            b"trusted.overlay.redirect",
            b"trusted.overlay.overlay.opaque",
            b"trusted.x",
            b"security.capability",
            b"system.posix_acl_access",
            b"system.posix_acl_default",
            b"nonsense",
            b"",
            b"user." + b"x" * 300,
        ]
    )
    | st.binary(max_size=6)
).map(lambda name: name + b"\0")
_DATA = st.binary(max_size=40) | st.sampled_from([b"d" * 5000, bytes(70_000)])


@st.composite
def _setxattr(draw: st.DrawFn) -> bytes:
    value, flags, more = draw(_DATA), draw(_numbers(32, True)), draw(_numbers(32, False))
    return wire.SETXATTR_IN.pack(len(value), flags, more, 0)[:16] + draw(_ATTRIBUTES) + value


@st.composite
def _write(draw: st.DrawFn) -> bytes:
    data = draw(_DATA)
    return wire.WRITE_IN.pack(draw(_numbers(64, True)), len(data), draw(_numbers(32, False))) + data


@st.composite
def _ioctl(draw: st.DrawFn) -> bytes:
    command = draw(
        st.sampled_from([FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR]) | _numbers(32, False)
    )
    data = draw(st.binary(max_size=32))
    return wire.IOCTL_IN.pack(0, command, 0, len(data), draw(_numbers(32, False))) + data


@st.composite
def _batch_forget(draw: st.DrawFn) -> bytes:
    records = draw(st.lists(_fields(wire.FORGET_ONE), max_size=4))
    return wire.BATCH_FORGET_IN.pack(draw(st.just(len(records)) | _numbers(32, False))) + b"".join(records)


def _joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


_NOTHING = st.just(b"") | st.just(bytes(16))
BODIES: dict[Opcode, st.SearchStrategy[bytes]] = {
    Opcode.LOOKUP: _NAMES,
    Opcode.FORGET: _fields(wire.FORGET_IN),
    Opcode.GETATTR: _NOTHING,
    Opcode.SETATTR: _fields(wire.SETATTR_IN),
    Opcode.READLINK: _NOTHING,
    Opcode.SYMLINK: _joined(_NAMES, _NAMES),
    Opcode.MKNOD: _joined(_fields(wire.MKNOD_IN), _NAMES),
    Opcode.MKDIR: _joined(_fields(wire.MKDIR_IN), _NAMES),
    Opcode.UNLINK: _NAMES,
    Opcode.RMDIR: _NAMES,
    Opcode.RENAME: _joined(_fields(wire.RENAME_IN), _NAMES, _NAMES),
    Opcode.RENAME2: _joined(_fields(wire.RENAME2_IN), _NAMES, _NAMES),
    Opcode.LINK: _joined(_fields(wire.LINK_IN), _NAMES),
    Opcode.OPEN: _fields(wire.OPEN_IN),
    Opcode.CREATE: _joined(_fields(wire.CREATE_IN), _NAMES),
    Opcode.READ: _fields(wire.READ_IN),
    Opcode.WRITE: _write(),
    Opcode.STATFS: _NOTHING,
    Opcode.RELEASE: _NOTHING,
    Opcode.FSYNC: _fields(wire.FSYNC_IN),
    Opcode.FSYNCDIR: _fields(wire.FSYNC_IN),
    Opcode.SETXATTR: _setxattr(),
    Opcode.GETXATTR: _joined(_fields(wire.GETXATTR_IN), _ATTRIBUTES),
    Opcode.LISTXATTR: _fields(wire.GETXATTR_IN),
    Opcode.REMOVEXATTR: _ATTRIBUTES,
    Opcode.READDIR: _fields(wire.READ_IN),
    Opcode.READDIRPLUS: _fields(wire.READ_IN),
    Opcode.FALLOCATE: _fields(wire.FALLOCATE_IN),
    Opcode.LSEEK: _fields(wire.LSEEK_IN),
    Opcode.COPY_FILE_RANGE: _fields(wire.COPY_FILE_RANGE_IN),
    Opcode.COPY_FILE_RANGE_64: _fields(wire.COPY_FILE_RANGE_IN),
    Opcode.TMPFILE: _joined(_fields(wire.CREATE_IN), _NAMES),
    Opcode.STATX: _NOTHING,
    Opcode.IOCTL: _ioctl(),
    Opcode.DESTROY: _NOTHING,
    Opcode.BATCH_FORGET: _batch_forget(),
    Opcode.INTERRUPT: _NOTHING,
}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """One request: most often of a known kind and about a node that may be there."""
    node = draw(st.integers(1, 12) | _numbers(64, False))
    if draw(st.integers(0, 15)) == 0:
        return Request(draw(st.integers(0, 100) | _numbers(32, False)), node, draw(st.binary(max_size=120)))
    opcode = draw(st.sampled_from(list(BODIES)))
    body = draw(BODIES[opcode])
    if draw(st.integers(0, 3)) == 0:
        body = draw(damaged(body[:200]) | st.binary(max_size=100))
    return Request(opcode, node, body, draw(st.sampled_from([0] * 15 + [-40, -1, 1, 8, 1 << 20])))


_SO_SNDBUFFORCE = 32  # socket(7), asm-generic/socket.h; beyond net.core.wmem_max, for root

INIT_FLAGS = _numbers(32, False)


@contextlib.contextmanager
def connected(
    filesystem: Filesystem, settings: SessionSettings, flags: int, flags2: int
) -> Iterator[tuple[Kernel, DirectConnection]]:
    """A connection on which INIT is over, with a kernel that offers these flags."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, ROOM)
        kernel = Kernel(theirs)
        kernel.send(Opcode.INIT, 0, wire.INIT_IN.pack(7, 45, 131072, flags, flags2) + bytes(44))
        with contextlib.closing(connect(ours.fileno(), filesystem, settings, patience=0)) as connection:
            assert kernel.receive().error == 0
            yield kernel, connection


assert BUFFER_SIZE < ROOM
