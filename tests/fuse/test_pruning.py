"""Requests to forget: what is sent, and what the kernel makes of it."""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.serving import Served, served, wait_until
from unionfs.filesystem import Forgettable
from unionfs.fuse import wire
from unionfs.fuse.pruning import Pruning
from unionfs.fuse.session import SessionSettings


@pytest.fixture
def sent(tmp_path: Path) -> Iterator[int]:
    """A descriptor in the place of a connection's."""
    fd = os.open(tmp_path / "sent", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_nodes_go_by_the_kernels_own_ids(sent: int) -> None:
    pruning = Pruning(sent, kernel_id={1: 10, 3: 30}.get)
    pruning.ask(Forgettable([1, 2, 3]))
    wait_until(lambda: os.pread(sent, 4096, 0) == wire.encode_prune([10, 30]))
    assert pruning.asked == 2
    pruning.close()


def test_nodes_that_the_kernel_does_not_know_are_not_asked_for(sent: int) -> None:
    pruning = Pruning(sent, kernel_id={1: 10}.get)
    pruning.ask(Forgettable([2, 3]))
    pruning.ask(Forgettable([1]))
    wait_until(lambda: os.fstat(sent).st_size > 0)
    assert os.pread(sent, 4096, 0) == wire.encode_prune([10])
    pruning.close()


def test_kernel_that_does_not_know_the_message_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with select.epoll() as unwritable:  # write(2) of it fails with EINVAL
        pruning = Pruning(unwritable.fileno())
        pruning.ask(Forgettable([1]))
        wait_until(lambda: "cannot be asked" in caplog.text)
        pruning.ask(Forgettable([2]))
        pruning.close()
    assert pruning.asked == 1


def test_kernel_known_not_to_know_the_message_is_not_asked(sent: int) -> None:
    pruning = Pruning(sent, is_possible=False)
    pruning.ask(Forgettable([1]))
    pruning.close()
    assert (pruning.asked, os.fstat(sent).st_size) == (0, 0)


@pytest.fixture
def slow_kernel() -> Iterator[tuple[int, int]]:
    """A pipe in the place of a connection, so full that a writer waits; both ends, the one for reading first."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)


def test_requests_that_a_slow_kernel_has_no_time_for_are_left_out(slow_kernel: tuple[int, int]) -> None:
    reader, writer = slow_kernel
    pruning = Pruning(writer)
    for _ in range(100):
        pruning.ask(Forgettable([1]))
    last = wire.encode_prune([2])
    read = os.read(reader, 1 << 20)
    # Asked again until there is room for it: what was asked before has been sent then.
    while last not in read:
        pruning.ask(Forgettable([2]))
        read += os.read(reader, 1 << 20)
    assert 0 < read.count(wire.encode_prune([1])) < 100
    pruning.close()
    os.close(writer)


def test_nothing_is_sent_after_the_end(slow_kernel: tuple[int, int]) -> None:
    reader, writer = slow_kernel
    pruning = Pruning(writer)
    for node in (1, 2):
        pruning.ask(Forgettable([node]))
    wait_until(lambda: pruning.asked == 1)
    pruning.close()
    os.close(writer)
    # The last to write is the thread, with the message that it had begun.
    with open(reader, "rb", closefd=False) as pipe:
        assert pipe.read().strip(b"\0") == wire.encode_prune([1]).strip(b"\0")


@pytest.fixture
def filesystem(tmp_path: Path) -> FakeFilesystem:
    (tmp_path / "real").mkdir()
    return FakeFilesystem(tmp_path / "real")


@pytest.fixture(params=["passthrough", "cached"])
def running(request: pytest.FixtureRequest, tmp_path: Path, filesystem: FakeFilesystem) -> Iterator[Served]:
    (tmp_path / "merged").mkdir()
    with served(tmp_path / "merged", filesystem, SessionSettings(data_path=request.param)) as mounted:
        yield mounted


def test_kernel_forgets_what_nobody_uses_when_asked_to(running: Served, filesystem: FakeFilesystem) -> None:
    used, unused = filesystem.add(b"used", b"1"), filesystem.add(b"unused", b"1")
    with open(running.mountpoint / "used", "rb") as file:
        os.stat(running.mountpoint / "unused")
        assert filesystem.nlookup[used] == filesystem.nlookup[unused] == 1
        filesystem.add(b"other")
        filesystem.hooks["lookup"] = lambda *_: filesystem.notices.append(Forgettable([used, unused, 4711]))
        os.stat(running.mountpoint / "other")
        filesystem.hooks.clear()
        wait_until(lambda: filesystem.nlookup[unused] == 0)
        assert filesystem.nlookup[used] == 1
        assert file.read() == b"1"
    assert running.session.counters["asked_to_forget"] == 3
    assert (running.mountpoint / "unused").read_bytes() == b"1"


def test_request_to_forget_that_comes_of_a_forget_is_sent(running: Served, filesystem: FakeFilesystem) -> None:
    nodes = [filesystem.add(name) for name in (b"one", b"two")]
    for name in ("one", "two"):
        os.stat(running.mountpoint / name)
    filesystem.add(b"other")
    filesystem.hooks["lookup"] = lambda *_: filesystem.notices.append(Forgettable(nodes[:1]))
    filesystem.hooks["forget"] = lambda node, _: node == nodes[0] and filesystem.notices.append(Forgettable(nodes[1:]))
    os.stat(running.mountpoint / "other")
    wait_until(lambda: filesystem.nlookup[nodes[1]] == 0)
