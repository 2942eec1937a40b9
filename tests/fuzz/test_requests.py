"""Whatever comes out of /dev/fuse: each request gets one reply, and the session goes on.

The filesystem is a real union on small layers, so that arguments reach the system calls that they are for.  The only failure
that may be logged is that of a malformed request; nothing that is logged otherwise was foreseen.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hypothesis.strategies as st
import trio
from hypothesis import example, given

from tests.fuse.kernel_end import DEADLINE
from tests.fuzz.bounds import bounded
from tests.fuzz.effort import effort
from tests.fuzz.requests import BODIES, INIT_FLAGS, UNANSWERED, Kernel, Request, connected, requests
from tests.fuzz.strategies import damaged
from tests.overlay.client import build
from unionfs.filesystem import ROOT_ID, Blocking
from unionfs.fuse import wire
from unionfs.fuse.device import receive
from unionfs.fuse.direct_connection import DirectConnection, WaitingRequest
from unionfs.fuse.direct_session import DirectSession
from unionfs.fuse.handshake import connect
from unionfs.fuse.protocol import InitFlag, Opcode
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.fuse.wire import MalformedRequestError
from unionfs.overlay import Options, Stack, Union

ALL = 0xFFFFFFFF
HIGHEST_ERRNO = 511


@contextlib.contextmanager
def union_in(directory: Path) -> Iterator[Union]:
    """A small union with objects of each type, in both layers."""
    upper = build(directory / "upper", {"both/upper": b"1", "other": b"2"})
    lower = build(directory / "lower", {"file": b"3" * 5000, "dir/deep/file": b"4", "both/lower": b"5", "hard": b"6"})
    os.link(lower / "hard", lower / "dir/hard")
    os.mkfifo(lower / "fifo")
    (lower / "link").symlink_to("file")
    with contextlib.closing(Union(Stack((lower,), upper, build(directory / "work", {})), Options(index="on"))) as union:
        yield union


class _Keeper(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@contextlib.contextmanager
def only_malformed_requests_fail() -> Iterator[None]:
    """Any other failure that is logged is one of the test."""
    records: list[logging.LogRecord] = []
    handler = _Keeper(records)
    logger = logging.getLogger("unionfs.fuse")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
    for record in records:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, MalformedRequestError):
            raise AssertionError(record.getMessage()) from error


def serve(connection: DirectConnection, waiting: list[WaitingRequest]) -> None:
    """One request, to its end."""
    received = receive(connection.fd, connection.buffers)
    header = wire.REQUEST_HEADER.unpack_from(connection.view)
    connection.handle(header, connection.view[wire.REQUEST_HEADER.size : received], 0)
    while waiting:
        finish(connection, waiting.pop())


def finish(connection: DirectConnection, request: WaitingRequest) -> None:
    blocking: Blocking | None = request.blocking
    while blocking is not None:
        try:
            result = blocking.work()
        except Exception as error:
            connection.refuse(request, error)
            return
        blocking = connection.resume(request, blocking, result)


def check_reply(request: Request, error: int, payload: bytes) -> None:
    assert 0 <= error <= HIGHEST_ERRNO
    if error:
        assert payload == b""
    elif request.opcode in (Opcode.READ, Opcode.READDIR, Opcode.READDIRPLUS):
        _, size = wire.READ_IN.decode(request.body)
        assert len(payload) <= size
    elif request.opcode in (Opcode.GETXATTR, Opcode.LISTXATTR):
        (size,) = wire.GETXATTR_IN.decode(request.body)
        assert len(payload) <= (size or wire.GETXATTR_OUT.size)


def ask(kernel: Kernel, connection: DirectConnection, waiting: list[WaitingRequest], request: Request) -> None:
    length = wire.REQUEST_HEADER.size + len(request.body) + request.lie
    unique = kernel.send(request.opcode, request.node, request.body, length)
    serve(connection, waiting)
    replies = []
    while kernel.has_message():
        message = kernel.receive()
        if message.unique:  # else a notice
            replies.append(message)
    if request.lie == 0 and request.opcode in UNANSWERED:
        assert replies == []
        return
    (reply,) = replies
    assert reply.unique == unique
    check_reply(request, reply.error, reply.payload)


def read(offset: int, size: int) -> bytes:
    return wire.READ_IN.pack(offset, size)


LOOKUP_FILE = Request(Opcode.LOOKUP, ROOT_ID, b"file\0")
PASSTHROUGH = InitFlag.PASSTHROUGH >> 32


@effort(200)
@given(
    asked=st.lists(requests(), min_size=1, max_size=8),
    flags=st.sampled_from([0, ALL, ALL & ~InitFlag.SETXATTR_EXT]),
    flags2=st.sampled_from([0, PASSTHROUGH]),
)
@example([LOOKUP_FILE, Request(Opcode.READ, 2, read(0, ALL))], ALL, 0)
@example([LOOKUP_FILE, Request(Opcode.READ, 2, read(-1, 10))], ALL, 0)
@example([LOOKUP_FILE, Request(Opcode.LSEEK, 2, wire.LSEEK_IN.pack(-1, os.SEEK_DATA))], ALL, 0)
@example([Request(Opcode.SETXATTR, ROOT_ID, wire.SETXATTR_IN.pack(0, -1, 0, 0) + b"user.a\0")], ALL, 0)
@example([LOOKUP_FILE, Request(Opcode.LSEEK, 2, wire.LSEEK_IN.pack(0, -1))], ALL, 0)
@example([LOOKUP_FILE, Request(Opcode.RELEASE, 2, b"")], ALL, PASSTHROUGH)
@example([Request(Opcode.MKNOD, ROOT_ID, wire.MKNOD_IN.pack(ALL, ALL, ALL) + b"new\0")], ALL, 0)
@example([Request(Opcode.IOCTL, ROOT_ID, wire.IOCTL_IN.pack(0, 0x80086601, 0, 0, ALL))], ALL, 0)
def test_each_request_gets_one_reply(
    new_directory: Callable[..., Path], asked: Sequence[Request], flags: int, flags2: int
) -> None:
    waiting: list[WaitingRequest] = []
    settings = SessionSettings()
    with (
        only_malformed_requests_fail(),
        union_in(new_directory()) as union,
        connected(union, settings, flags, flags2) as (kernel, connection),
        bounded(),
    ):
        connection.hand_over(waiting.append)
        for request in asked:
            ask(kernel, connection, waiting, request)
        ask(kernel, connection, waiting, Request(Opcode.GETATTR, ROOT_ID, bytes(16)))


@effort(60)
@given(asked=st.lists(requests(), min_size=1, max_size=8))
def test_session_outlives_all_of_them(new_directory: Callable[..., Path], asked: Sequence[Request]) -> None:
    async def kernel_side(kernel: Kernel, scope: trio.CancelScope) -> None:
        for request in asked:
            kernel.send(request.opcode, request.node, request.body, 40 + len(request.body) + request.lie)
        error, payload = await last_word(kernel)
        assert (error, len(payload)) == (0, wire.ATTR_OUT.size)
        scope.cancel()

    async def last_word(kernel: Kernel) -> tuple[int, bytes]:
        unique = kernel.send(Opcode.GETATTR, ROOT_ID, bytes(16))
        while True:
            await trio.lowlevel.wait_readable(kernel.fileno())
            message = kernel.receive()
            if message.unique == unique:
                return message.error, message.payload

    async def main(kernel: Kernel, connection: DirectConnection) -> None:
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kernel_side, kernel, nursery.cancel_scope)
                await DirectSession(connection, spin_us=0).run()

    with (
        only_malformed_requests_fail(),
        union_in(new_directory()) as union,
        connected(union, SessionSettings(spin_us=0), ALL, 0) as (kernel, connection),
    ):
        trio.run(main, kernel, connection)


@effort(200)
@given(body=st.sampled_from(list(BODIES)).flatmap(BODIES.__getitem__).flatmap(lambda body: damaged(body[:200])))
def test_decoders_raise_nothing_but_their_own_error(body: bytes) -> None:
    view = memoryview(body)
    decoders: list[Callable[[], object]] = [
        lambda: wire.decode_init(view),
        lambda: wire.decode_name(view),
        lambda: wire.decode_write(view),
        lambda: wire.decode_batch_forget(view),
        *(lambda count=count: wire.decode_strings(view, 8, count) for count in (1, 2)),
        *(lambda extended=extended: wire.decode_setxattr(view, extended) for extended in (False, True)),
    ]
    with bounded():
        for decode in decoders:
            with contextlib.suppress(MalformedRequestError):
                decode()


@effort(100)
@given(
    body=st.tuples(st.sampled_from([0, 6, 7, 8, ALL]), st.sampled_from([0, 30, 31, 45, ALL]), INIT_FLAGS, INIT_FLAGS, INIT_FLAGS)
    .map(lambda values: wire.INIT_IN.pack(*values) + bytes(44))
    .flatmap(damaged),
    opcode=st.sampled_from([Opcode.INIT] * 7 + [Opcode.LOOKUP]),
)
def test_first_request_is_agreed_on_or_refused(new_directory: Callable[..., Path], body: bytes, opcode: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, union_in(new_directory()) as union, bounded():
        ours.setblocking(False)
        Kernel(theirs).send(opcode, 0, body)
        with contextlib.suppress(SessionError, MalformedRequestError):
            connect(ours.fileno(), union, SessionSettings(), patience=0).close()
