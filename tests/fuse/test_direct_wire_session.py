"""The direct session with the test as the kernel, over a socket that keeps message boundaries as /dev/fuse does."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import trio

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.kernel_end import DEADLINE, KernelEnd, connected
from unionfs.filesystem import ROOT_ID
from unionfs.fuse import direct_session, wire
from unionfs.fuse.device import ENDED, NOTHING_YET
from unionfs.fuse.direct_connection import DirectConnection
from unionfs.fuse.direct_session import DirectSession
from unionfs.fuse.protocol import Opcode
from unionfs.fuse.spin import Spin


def talk(
    filesystem: FakeFilesystem, kernel: Callable[[KernelEnd, DirectSession], Awaitable[None]], until_session_ends: bool = False
) -> None:
    """Run a session with ``kernel`` at the other end, until one of them ends: the kernel's, unless told otherwise."""

    async def main(end: KernelEnd, connection: DirectConnection) -> None:
        session = DirectSession(connection, spin_us=0)
        sides = (session.run, partial(kernel, end, session))
        first, last = sides if until_session_ends else reversed(sides)
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(last)
                await first()
                nursery.cancel_scope.cancel()

    with connected(filesystem) as (end, connection):
        trio.run(main, end, connection)


@pytest.mark.parametrize("opcode", [Opcode.SYNCFS, Opcode.BMAP, Opcode.OPEN, Opcode.OPENDIR, 4000])
def test_request_that_is_not_served_is_enosys(filesystem: FakeFilesystem, opcode: int) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        assert await end.ask(opcode, ROOT_ID, bytes(64)) == (errno.ENOSYS, b"")

    talk(filesystem, kernel)


def test_unknown_opcode_is_counted_by_its_number(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, session: DirectSession) -> None:
        await end.ask(4000, ROOT_ID, b"")
        assert session.counters["opcode_4000"] == 1

    talk(filesystem, kernel)


@pytest.mark.expects_log_error("setattr of node 1 failed: MalformedRequestError")
def test_malformed_request_is_eio_and_the_session_goes_on(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        assert await end.ask(Opcode.SETATTR, ROOT_ID, b"short") == (errno.EIO, b"")
        error, _ = await end.ask(Opcode.GETATTR, ROOT_ID, bytes(16))
        assert error == 0

    talk(filesystem, kernel)


@pytest.mark.expects_log_error("40 bytes read, 41 announced")
def test_request_that_announces_another_length_is_malformed(filesystem: FakeFilesystem) -> None:
    async def kernel(end: KernelEnd, _session: DirectSession) -> None:
        assert await end.ask(Opcode.STATFS, ROOT_ID, b"", length=41) == (errno.EIO, b"")

    talk(filesystem, kernel)


class BusyKernel:
    """Stands for `unionfs.fuse.device.receive`: a FORGET at every second look, so that the session never sleeps."""

    def __init__(self) -> None:
        self.requests_left = 1000

    def __call__(self, _fd: int, buffers: Sequence[memoryview]) -> int:
        if self.requests_left == 0:
            return ENDED
        self.requests_left -= 1
        if self.requests_left % 2:
            return NOTHING_YET
        request = wire.REQUEST_HEADER.pack(48, Opcode.FORGET, 0, 2, 0, 0, 0, 0) + wire.FORGET_IN.pack(1)
        buffers[0][: len(request)] = request
        return len(request)


def set_clock(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    """Each look at the clock takes so long."""
    clock = itertools.count(0, step_ns)
    monkeypatch.setattr("unionfs.fuse.direct_session.time.perf_counter_ns", lambda: next(clock))


def test_other_tasks_get_their_turn_under_a_load_that_never_lets_the_session_sleep(
    filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = BusyKernel()
    monkeypatch.setattr(direct_session, "receive", busy)
    monkeypatch.setattr(Spin, "may_continue", lambda _spin, _now: True)
    turns_at: list[int] = []

    async def kernel(_end: KernelEnd, _session: DirectSession) -> None:
        while True:
            turns_at.append(busy.requests_left)
            await trio.lowlevel.checkpoint()

    set_clock(monkeypatch, 100_000)
    talk(filesystem, kernel, until_session_ends=True)
    longest_wait = max(before - after for before, after in itertools.pairwise(turns_at))
    # A turn of the session ends after 2 ms, here 20 looks at the clock, or two or more a request; trio may let two turns pass.
    assert longest_wait <= 40


@pytest.mark.parametrize(("step_ns", "gives_way"), [(1_000, False), (40_000, True)])
def test_busy_waiting_gives_way_when_yielding_takes_long(
    filesystem: FakeFilesystem, monkeypatch: pytest.MonkeyPatch, step_ns: int, gives_way: bool
) -> None:
    monkeypatch.setattr(direct_session, "receive", BusyKernel())
    monkeypatch.setattr(Spin, "may_continue", lambda _spin, _now: True)
    given: list[Spin] = []
    monkeypatch.setattr(Spin, "give_way", lambda spin: given.append(spin))

    async def kernel(_end: KernelEnd, _session: DirectSession) -> None:
        await trio.sleep_forever()

    set_clock(monkeypatch, step_ns)
    talk(filesystem, kernel, until_session_ends=True)
    assert bool(given) is gives_way
