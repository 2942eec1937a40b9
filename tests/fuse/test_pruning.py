"""Requests to forget: what is sent, and what the kernel makes of it."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.serving import Served, served, wait_until
from unionfs.filesystem import Forgettable
from unionfs.fuse import wire
from unionfs.fuse.pruning import Pruning
from unionfs.fuse.session import SessionSettings


def send(pruning: Pruning, *requests: list[int]) -> None:
    """Have all of ``requests`` sent, one after the other."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pruning.run)
            for nodes in requests:
                pruning.ask(Forgettable(nodes))
                await trio.testing.wait_all_tasks_blocked()
            pruning.close()

    trio.run(main)


def test_nodes_go_by_the_kernels_own_ids(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "sent", os.O_RDWR | os.O_CREAT)
    pruning = Pruning(fd, kernel_id={1: 10, 3: 30}.get)
    send(pruning, [1, 2, 3])
    assert os.pread(fd, 4096, 0) == wire.encode_prune([10, 30])
    assert pruning.asked == 2
    os.close(fd)


def test_kernel_that_does_not_know_the_message_is_asked_once() -> None:
    with select.epoll() as unwritable:  # write(2) of it fails with EINVAL
        pruning = Pruning(unwritable.fileno())
        send(pruning, [1], [2])
    assert pruning.asked == 1


def test_kernel_known_not_to_know_the_message_is_not_asked(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "sent", os.O_RDWR | os.O_CREAT)
    send(Pruning(fd, is_possible=False), [1])
    assert os.fstat(fd).st_size == 0
    os.close(fd)


def test_requests_that_a_slow_kernel_has_no_time_for_are_left_out(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "sent", os.O_RDWR | os.O_CREAT)
    pruning = Pruning(fd)
    for node in range(100):
        pruning.ask(Forgettable([node]))
    pruning.close()
    trio.run(pruning.run)
    assert 0 < pruning.asked < 100
    os.close(fd)


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
