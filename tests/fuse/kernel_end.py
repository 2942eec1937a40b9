"""The kernel's side of a direct connection, played by the test: over a socket that keeps message boundaries as /dev/fuse does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

import trio

from unionfs.filesystem import ROOT_ID, Filesystem
from unionfs.fuse import wire
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.handshake import connect
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.session import SessionSettings

DEADLINE = 10.0
"""Seconds after which a message that must come is taken for lost."""

_HEADER_SIZE = 40  # struct fuse_in_header
_WIDTHS = (4, 4, 8, 8, 4, 4, 4, 4)


class Message(NamedTuple):
    """What the server wrote: a reply, or a notice (``unique`` 0, ``error`` the negative code)."""

    unique: int
    error: int
    payload: bytes


class KernelEnd:
    """Sends requests and receives what is written."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        self._connection = connection
        self._unique = 0

    def send(self, opcode: int, node: int = ROOT_ID, body: bytes = b"", length: int | None = None) -> int:
        """Send a request; its number.  ``length``: what the header says, if not the truth."""
        self._unique += 2
        size = _HEADER_SIZE + len(body) if length is None else length
        values = (size, opcode, self._unique, node, 0, 0, 0, 0)
        header = b"".join(value.to_bytes(width, "little") for value, width in zip(values, _WIDTHS, strict=True))
        self._connection.send(header + body)
        return self._unique

    def send_init(self, major: int = 7, minor: int = 45) -> int:
        """Send INIT, offering nothing."""
        body = b"".join(value.to_bytes(4, "little") for value in (major, minor, 131072, 0, 0)) + bytes(44)
        return self.send(Opcode.INIT, 0, body)

    def receive(self) -> Message:
        """The next message that the server wrote."""
        message = self._connection.recv(1 << 21)
        size, error, unique = wire.REPLY_HEADER.unpack_from(message)
        assert size == len(message)
        return Message(unique, -error, message[wire.REPLY_HEADER.size :])

    def has_message(self) -> bool:
        """Whether there is one."""
        self._connection.setblocking(False)
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._connection.settimeout(DEADLINE)

    async def ask(self, opcode: int, node: int, body: bytes, length: int | None = None) -> tuple[int, bytes]:
        """Send a request and wait for the reply: errno and payload."""
        unique = self.send(opcode, node, body, length)
        await trio.lowlevel.wait_readable(self._connection)
        reply = self.receive()
        assert reply.unique == unique
        return reply.error, reply.payload


@contextlib.contextmanager
def kernel_end() -> Iterator[tuple[KernelEnd, int]]:
    """The kernel's end of a connection, and the descriptor of the server's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        # Both ways room for a WRITE of 200 kB and more that nobody reads yet.
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        yield KernelEnd(theirs), ours.fileno()


@contextlib.contextmanager
def connected(filesystem: Filesystem, spin_us: int = 0) -> Iterator[tuple[KernelEnd, DirectConnection]]:
    """A connection on which INIT is over."""
    with kernel_end() as (kernel, fd):
        kernel.send_init()
        with contextlib.closing(connect(fd, filesystem, SessionSettings(spin_us=spin_us))) as connection:
            assert kernel.receive().error == 0
            yield kernel, connection
