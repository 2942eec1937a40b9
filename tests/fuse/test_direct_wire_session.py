"""The direct session with the test as the kernel, over a socket that keeps message boundaries as /dev/fuse does."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.fake_filesystem import FakeFilesystem
from unionfs.filesystem import ROOT_ID
from unionfs.fuse import wire
from unionfs.fuse.direct_session import _ENDED, _NOTHING_YET, DirectSession
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.session import SessionError, SessionSettings
from unionfs.fuse.spin import Spin

DEADLINE = 10.0


class KernelEnd:
    """The kernel's side of the connection."""

    def __init__(self, connection: trio.socket.SocketType) -> None:
        self._connection = connection
        self._unique = 0

    async def ask(self, opcode: int, node: int, body: bytes, length: int | None = None) -> tuple[int, bytes]:
        """Send a request; the errno and the payload of the reply.  ``length``: what the header says, if not the truth."""
        self._unique += 2
        size = 40 + len(body) if length is None else length
        header = b"".join(
            value.to_bytes(width, "little")
            for value, width in zip((size, opcode, self._unique, node, 0, 0, 0, 0), (4, 4, 8, 8, 4, 4, 4, 4), strict=True)
        )
        await self._connection.send(header + body)
        reply = await self._connection.recv(1 << 20)
        size, error, unique = wire.REPLY_HEADER.unpack_from(reply)
        assert (size, unique) == (len(reply), self._unique)
        return -error, reply[wire.REPLY_HEADER.size :]

    async def init(self, major: int = 7, minor: int = 45) -> tuple[int, bytes]:
        body = b"".join(value.to_bytes(4, "little") for value in (major, minor, 131072, 0, 0)) + bytes(44)
        return await self.ask(Opcode.INIT, 0, body)


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[FakeFilesystem]:
    fake = FakeFilesystem(tmp_path)
    yield fake
    fake.close()


def talk(
    filesystem: FakeFilesystem,
    kernel: Callable[[KernelEnd, DirectSession], Awaitable[None]],
    make_session: type[DirectSession] = DirectSession,
    until_session_ends: bool = False,
) -> None:
    """Run a session with ``kernel`` at the other end, until one of them ends: the kernel's, unless told otherwise."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def main() -> None:
        ours.setblocking(False)
        session = make_session(ours.fileno(), filesystem, SessionSettings(spin_us=0))
        sides = (session.run, partial(kernel, KernelEnd(trio.socket.from_stdlib_socket(theirs)), session))
        first, last = sides if until_session_ends else reversed(sides)
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(last)
                await first()
                nursery.cancel_scope.cancel()

    with ours, theirs:
        try:
            trio.run(main)
        except ExceptionGroup as group:  # not except*: in Python 3.11.2 (Debian 12) it wraps what its block raises
            if isinstance(group.exceptions[0], SessionError) and len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise


def test_newer_major_version_is_answered_with_ours_and_asked_again(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, session: DirectSession) -> None:
        error, payload = await end.init(major=8)
        assert (error, payload[:4]) == (0, b"\7\0\0\0")
        assert session.negotiated == {}
        error, _ = await end.init()
        assert error == 0
        assert session.negotiated["protocol"] == "7.45"

    talk(filesystem, kernel)


def test_too_old_kernel_gets_an_error_reply_and_ends_the_session(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        error, _ = await end.init(minor=30)
        assert error == errno.EPROTO
        await trio.sleep_forever()

    with pytest.raises(SessionError, match=r"7\.30"):
        talk(filesystem, kernel)


def test_connection_that_does_not_begin_with_init_is_an_error(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        await end.ask(Opcode.GETATTR, ROOT_ID, bytes(16))

    with pytest.raises(SessionError, match="instead of INIT"):
        talk(filesystem, kernel)


@pytest.mark.parametrize("opcode", [Opcode.SYNCFS, Opcode.BMAP, Opcode.OPEN, Opcode.OPENDIR, 4000])
def test_request_that_is_not_served_is_enosys(filesystem: FakeFilesystem, opcode: int) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        await end.init()
        assert await end.ask(opcode, ROOT_ID, bytes(64)) == (errno.ENOSYS, b"")

    talk(filesystem, kernel)


def test_unknown_opcode_is_counted_by_its_number(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, session: DirectSession) -> None:
        await end.init()
        await end.ask(4000, ROOT_ID, b"")
        assert session.counters["opcode_4000"] == 1

    talk(filesystem, kernel)


@pytest.mark.expects_log_error("setattr of node 1 failed: MalformedRequestError")
def test_malformed_request_is_eio_and_the_session_goes_on(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        await end.init()
        assert await end.ask(Opcode.SETATTR, ROOT_ID, b"short") == (errno.EIO, b"")
        error, _ = await end.ask(Opcode.GETATTR, ROOT_ID, bytes(16))
        assert error == 0

    talk(filesystem, kernel)


@pytest.mark.expects_log_error("40 bytes read, 41 announced")
def test_request_that_announces_another_length_is_malformed(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        await end.init()
        assert await end.ask(Opcode.STATFS, ROOT_ID, b"", length=41) == (errno.EIO, b"")

    talk(filesystem, kernel)


class BusyKernel(DirectSession):
    """A session that gets a FORGET at every second look, and so never sleeps; each look at the clock takes 100 µs."""

    requests_left = 1000

    def _receive(self) -> int:
        if not self.negotiated:
            return super()._receive()
        if self.requests_left == 0:
            return _ENDED
        self.requests_left -= 1
        if self.requests_left % 2:
            return _NOTHING_YET
        request = wire.REQUEST_HEADER.pack(48, Opcode.FORGET, 0, 2, 0, 0, 0, 0) + wire.FORGET_IN.pack(1)
        self._view[: len(request)] = request
        return len(request)


def test_other_tasks_get_their_turn_under_a_load_that_never_lets_the_session_sleep(
    filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 100_000)
    monkeypatch.setattr("unionfs.fuse.direct_session.time.perf_counter_ns", lambda: next(clock))
    monkeypatch.setattr(Spin, "may_continue", lambda _spin, _now: True)
    turns_at: list[int] = []

    async def note_turns(session: BusyKernel) -> None:
        while True:
            turns_at.append(session.requests_left)
            await trio.lowlevel.checkpoint()

    async def kernel(end: KernelEnd, session: DirectSession) -> None:
        assert isinstance(session, BusyKernel)
        await end.init()
        await note_turns(session)

    talk(filesystem, kernel, BusyKernel, until_session_ends=True)
    longest_wait = max(before - after for before, after in itertools.pairwise(turns_at))
    # A turn of the session ends after 2 ms, here 20 looks at the clock, or two or more a request; trio may let two turns pass.
    assert longest_wait <= 40
