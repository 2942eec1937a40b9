"""Serving without an event loop, as the daemon does while it loads one: with the test as the kernel, and on a real mount."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.kernel_end import connected
from tests.fuse.serving import DEADLINE
from unionfs.filesystem import Blocking, Forgettable, StaleAttributes
from unionfs.fuse import wire
from unionfs.fuse.direct_connection import DirectConnection, WaitingRequest
from unionfs.fuse.direct_session import DirectSession
from unionfs.fuse.handshake import connect
from unionfs.fuse.mounting import MountOptions, mount, unmount
from unionfs.fuse.protocol import NotifyCode, Opcode
from unionfs.fuse.session import SessionSettings


class Wake:
    """A descriptor that gets readable at a request."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0)

    def up(self, *_: object) -> None:
        os.eventfd_write(self.fd, 1)


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    os.close(made.fd)


def write_in(data: bytes) -> bytes:
    """The body of a WRITE at the start of a file."""
    return wire.WRITE_IN.pack(0, len(data), 0) + data


def once_for(node: int, blocking: Blocking) -> Callable[..., None]:
    """A hook that lets the first request for ``node`` wait."""
    waits = [blocking]

    def hook(asked: int, *_: object) -> None:
        if asked == node and waits:
            raise waits.pop()

    return hook


# -- with the test as the kernel --------------------------------------------------------------------------------------


def test_requests_are_answered_until_the_descriptor_is_readable(filesystem: FakeFilesystem, wake: Wake) -> None:
    filesystem.hooks["statfs"] = wake.up
    with connected(filesystem) as (kernel, connection):
        asked = [kernel.send(opcode, body=bytes(64)) for opcode in (Opcode.GETATTR, Opcode.BMAP, Opcode.STATFS, Opcode.GETATTR)]
        connection.serve_until(wake.fd)
        replies = [kernel.receive() for _ in asked[:3]]
        assert [reply.unique for reply in replies] == asked[:3]
        assert [reply.error for reply in replies] == [0, errno.ENOSYS, 0]
        # The last one is for whoever serves next.
        assert not kernel.has_message()
    assert connection.counters | {"getattr": 1, "statfs": 1, "bmap": 1, "errors": 1} == connection.counters


def test_request_that_must_wait_is_handed_over_with_its_own_bytes(filesystem: FakeFilesystem, wake: Wake) -> None:
    slow, quick = filesystem.add(b"slow"), filesystem.add(b"quick")
    blocking = Blocking(lambda: None)
    filesystem.hooks["write"] = once_for(slow, blocking)
    filesystem.hooks["statfs"] = wake.up
    kept: list[WaitingRequest] = []
    with connected(filesystem) as (kernel, connection):
        waiting = kernel.send(Opcode.WRITE, slow, write_in(b"s" * 100_000))
        at_once = kernel.send(Opcode.WRITE, quick, write_in(b"q" * 100_000))
        last = kernel.send(Opcode.STATFS)
        connection.serve_until(wake.fd)
        assert [kernel.receive().unique, kernel.receive().unique] == [at_once, last]
        assert not kernel.has_message()

        connection.hand_over(kept.append)
        (request,) = kept
        assert request.blocking is blocking
        assert connection.resume(request, blocking, None) is None
        reply = kernel.receive()
        assert (reply.unique, reply.error) == (waiting, 0)
    assert filesystem.content(slow) == b"s" * 100_000
    assert filesystem.content(quick) == b"q" * 100_000
    assert connection.counters["blocking"] == 1


def test_request_that_must_wait_after_the_handing_over_goes_the_same_way(filesystem: FakeFilesystem, wake: Wake) -> None:
    kept: list[WaitingRequest] = []
    node = filesystem.add(b"file")
    filesystem.hooks["getattr"] = once_for(node, Blocking(lambda: None))
    filesystem.hooks["statfs"] = wake.up
    with connected(filesystem) as (kernel, connection):
        connection.hand_over(kept.append)
        unique = kernel.send(Opcode.GETATTR, node, bytes(16))
        kernel.send(Opcode.STATFS)
        connection.serve_until(wake.fd)
    assert [request.header[2] for request in kept] == [unique]


def test_stale_attributes_are_told_before_the_reply_and_nodes_to_forget_after_it(filesystem: FakeFilesystem, wake: Wake) -> None:
    def hook(*_: object) -> None:
        filesystem.notices += [StaleAttributes(7), Forgettable([8, 9])]
        wake.up()

    filesystem.hooks["statfs"] = hook
    with connected(filesystem) as (kernel, connection):
        unique = kernel.send(Opcode.STATFS)
        connection.serve_until(wake.fd)
        stale, reply, prune = (kernel.receive() for _ in range(3))
        assert (reply.unique, reply.error) == (unique, 0)
        assert (stale.unique, -stale.error, stale.payload[:8]) == (0, NotifyCode.INVAL_INODE, (7).to_bytes(8, "little"))
        assert (prune.unique, -prune.error) == (0, NotifyCode.PRUNE)
        assert prune.payload.endswith((8).to_bytes(8, "little") + (9).to_bytes(8, "little"))
    assert filesystem.notices == []


def out_of_descriptors(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(("to_give_way", "error"), [(3, 0), (1, errno.EMFILE)])
def test_request_without_descriptors_is_tried_again_while_some_are_given_up(
    filesystem: FakeFilesystem, wake: Wake, to_give_way: int, error: int
) -> None:
    failures = [out_of_descriptors] * 2
    filesystem.hooks["statfs"] = lambda *_: failures.pop()() if failures else None
    filesystem.to_give_way = to_give_way
    filesystem.hooks["getattr"] = wake.up
    with connected(filesystem) as (kernel, connection):
        kernel.send(Opcode.STATFS)
        kernel.send(Opcode.GETATTR, body=bytes(16))
        connection.serve_until(wake.fd)
        assert kernel.receive().error == error


# -- on a real mount --------------------------------------------------------------------------------------------------


class Early:
    """A mount served by a thread without an event loop until it is woken, then with one."""

    def __init__(self, mountpoint: Path, filesystem: FakeFilesystem, wake: Wake) -> None:
        self._filesystem = filesystem
        self._wake = wake
        self._fd = mount(mountpoint, MountOptions())
        self.loop_is_wanted = threading.Event()
        self.early_phase_is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        with contextlib.closing(connect(self._fd, self._filesystem, SessionSettings())) as connection:
            connection.serve_until(self._wake.fd)
            self.early_phase_is_over.set()
            assert self.loop_is_wanted.wait(DEADLINE)
            self._run_session(connection)

    def _run_session(self, connection: DirectConnection) -> None:
        trio.run(DirectSession(connection, 0).run)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._wake.up()
        self.loop_is_wanted.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the session did not end"
        os.close(self._fd)
        self._filesystem.close()


@pytest.fixture
def early(mountpoint: Path, filesystem: FakeFilesystem, wake: Wake) -> Iterator[Early]:
    served = Early(mountpoint, filesystem, wake)
    served.start()
    yield served
    with contextlib.suppress(OSError):
        unmount(mountpoint, lazy=True)
    served.join()


def test_mount_is_used_without_an_event_loop_and_then_with_one(early: Early, mountpoint: Path, wake: Wake) -> None:
    (mountpoint / "directory").mkdir()
    (mountpoint / "directory/file").write_bytes(b"x" * 3_000_000)
    assert os.listdir(mountpoint) == ["directory"]
    assert not early.early_phase_is_over.is_set()
    wake.up()
    early.loop_is_wanted.set()
    assert (mountpoint / "directory/file").read_bytes() == b"x" * 3_000_000
    assert early.early_phase_is_over.is_set()


def test_client_that_must_wait_is_answered_by_the_event_loop(
    early: Early, mountpoint: Path, filesystem: FakeFilesystem, wake: Wake
) -> None:
    node = filesystem.add(b"slow", b"content")
    asked = threading.Event()
    runs: list[str] = []

    def hook(*arguments: object) -> None:
        asked.set()
        first(*arguments)

    first = once_for(node, Blocking(lambda: runs.append(threading.current_thread().name)))
    filesystem.hooks["open"] = filesystem.hooks["read"] = hook
    with ThreadPoolExecutor() as clients:
        reading = clients.submit((mountpoint / "slow").read_bytes)
        assert asked.wait(DEADLINE)
        os.listdir(mountpoint)
        assert (reading.done(), runs) == (False, [])
        wake.up()
        early.loop_is_wanted.set()
        assert reading.result(DEADLINE) == b"content"
    assert len(runs) == 1


def test_end_of_the_mount_ends_the_serving_without_an_event_loop(early: Early, mountpoint: Path) -> None:
    os.listdir(mountpoint)
    unmount(mountpoint)
    assert early.early_phase_is_over.wait(DEADLINE)
