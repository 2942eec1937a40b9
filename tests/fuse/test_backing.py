"""Passthrough: which backing ids are registered, kept and closed."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_filesystem import FakeFilesystem
from tests.fuse.serving import Served, served, wait_until
from tests.mounts import KERNEL
from unionfs.filesystem import Opened
from unionfs.fuse.backing import BackingFiles
from unionfs.fuse.protocol import IOC_BACKING_CLOSE, IOC_BACKING_OPEN, OpenFlag
from unionfs.fuse.session import SessionSettings

PASSTHROUGH = OpenFlag.NOFLUSH | OpenFlag.PASSTHROUGH


class FakeKernel:
    """The two ioctls of a /dev/fuse descriptor."""

    def __init__(self) -> None:
        self.registered: set[int] = set()
        self.error = 0
        self._last = 0

    def ioctl(self, _fd: int, request: int, argument: bytearray | bytes) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if request == IOC_BACKING_CLOSE:
            self.registered.remove(struct.unpack("=I", argument)[0])
            return 0
        assert request == IOC_BACKING_OPEN
        assert isinstance(argument, bytearray)
        self._last += 1
        self.registered.add(self._last)
        return self._last


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr("unionfs.fuse.backing.fcntl.ioctl", fake.ioctl)
    return fake


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[FakeFilesystem]:
    (tmp_path / "real").mkdir()
    fake = FakeFilesystem(tmp_path / "real")
    for name in (b"a", b"b", b"c"):
        fake.add(name)
    yield fake
    fake.close()


A, B, C = 2, 3, 4


def test_all_opens_of_a_node_share_one_backing_id(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem)
    assert [files.acquire(A, Opened(0)) for _ in range(2)] == [(PASSTHROUGH, 1)] * 2
    assert filesystem.pins[A] == 2
    files.release(A)
    assert filesystem.pins[A] == 1
    assert kernel.registered == {1}


def test_ids_that_nobody_has_open_can_be_dropped(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem)
    for node in (A, B):
        files.acquire(node, Opened(0))
    files.release(A)
    files.drop_idle()
    assert kernel.registered == {2}
    files.forget(A)
    assert files.acquire(A, Opened(0)) == (PASSTHROUGH, 3)


def test_reopening_after_the_last_release_registers_nothing(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem)
    for _ in range(3):
        assert files.acquire(A, Opened(0)) == (PASSTHROUGH, 1)
        files.release(A)
    assert files.registered == 1
    assert filesystem.pins[A] == 0
    assert kernel.registered == {1}


def test_new_real_file_replaces_the_backing_id(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem)
    files.acquire(A, Opened(0))
    files.release(A)
    assert files.acquire(A, Opened(1)) == (PASSTHROUGH, 2)
    assert kernel.registered == {2}


def test_new_real_file_under_an_open_one_is_stale(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem)
    files.acquire(A, Opened(0))
    with pytest.raises(OSError, match="another real file") as caught:
        files.acquire(A, Opened(1))
    assert caught.value.errno == errno.ESTALE
    assert filesystem.pins[A] == 1
    assert kernel.registered == {1}


def test_forgotten_node_gives_its_id_back(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem)
    files.acquire(A, Opened(0))
    files.release(A)
    files.forget(A)
    files.forget(B)
    assert kernel.registered == set()


def test_least_recently_used_idle_id_makes_room(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem, max_idle=2)
    for node in (A, B, A, C):
        files.acquire(node, Opened(0))
        files.release(node)
    assert kernel.registered == {1, 3}  # those of A and C


def test_open_ids_are_never_evicted(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    files = BackingFiles(-1, filesystem, max_idle=1)
    files.acquire(A, Opened(0))
    for node in (B, C):
        files.acquire(node, Opened(0))
        files.release(node)
    assert kernel.registered == {1, 3}


def test_refused_file_is_cached_and_its_pages_kept_from_the_second_open(kernel: FakeKernel, filesystem: FakeFilesystem) -> None:
    kernel.error = errno.ELOOP
    files = BackingFiles(-1, filesystem)
    assert files.acquire(A, Opened(0)) == (OpenFlag.NOFLUSH, 0)
    assert files.acquire(A, Opened(0)) == (OpenFlag.NOFLUSH | OpenFlag.KEEP_CACHE, 0)
    assert files.acquire(A, Opened(0, truncated=True)) == (OpenFlag.NOFLUSH, 0)
    for _ in range(3):
        files.release(A)
    assert files.acquire(A, Opened(0)) == (OpenFlag.NOFLUSH | OpenFlag.KEEP_CACHE, 0)
    assert filesystem.pins[A] == 0
    assert files.refused == 1


def test_refused_file_that_is_open_stays_cached_when_its_real_file_changes(
    kernel: FakeKernel, filesystem: FakeFilesystem
) -> None:
    files = BackingFiles(-1, filesystem)
    kernel.error = errno.ELOOP
    files.acquire(A, Opened(0))
    kernel.error = 0
    assert files.acquire(A, Opened(1)) == (OpenFlag.NOFLUSH | OpenFlag.KEEP_CACHE, 0)
    for _ in range(2):
        files.release(A)
    assert files.acquire(A, Opened(1)) == (PASSTHROUGH, 1)


# -- with the real kernel ---------------------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Served, FakeFilesystem, int]]:
    (tmp_path / "real").mkdir()
    (tmp_path / "merged").mkdir()
    fake = FakeFilesystem(tmp_path / "real")
    node = fake.add(b"f", b"lower")
    with served(tmp_path / "merged", fake, SessionSettings(data_path="passthrough")) as running:
        yield running, fake, node


def test_data_in_passthrough_never_reaches_the_server(mounted: tuple[Served, FakeFilesystem, int]) -> None:
    running, fake, node = mounted
    path = running.mountpoint / "f"
    assert path.read_bytes() == b"lower"
    with path.open("r+b") as file:
        file.write(b"LOWER and more")
    assert fake.content(node) == b"LOWER and more"
    assert path.stat().st_size == len(b"LOWER and more")
    assert {"read", "write", "flush"}.isdisjoint(running.session.counters)
    assert running.session.counters["backing_registered"] == 1


def test_open_file_is_pinned_until_its_release(mounted: tuple[Served, FakeFilesystem, int]) -> None:
    running, fake, node = mounted
    with (running.mountpoint / "f").open("rb"), (running.mountpoint / "f").open("rb"):
        assert fake.pins[node] == 2
    wait_until(lambda: fake.pins[node] == 0)


def test_file_whose_data_moved_is_read_from_its_new_place(mounted: tuple[Served, FakeFilesystem, int]) -> None:
    running, fake, node = mounted
    path = running.mountpoint / "f"
    assert path.read_bytes() == b"lower"
    wait_until(lambda: fake.pins[node] == 0)
    fake.move_data(node).write_bytes(b"upper")
    assert path.read_bytes() == b"upper"
    assert running.session.counters["backing_registered"] == 2


def test_unlinked_file_in_passthrough_is_forgotten_without_failure(mounted: tuple[Served, FakeFilesystem, int]) -> None:
    running, fake, node = mounted
    path = running.mountpoint / "f"
    path.read_bytes()
    path.unlink()
    wait_until(lambda: fake.nlookup[node] == 0)
    assert fake.calls["forget"] > 0
    assert running.session.counters["failures"] == 0


def test_file_that_the_kernel_refuses_goes_through_the_page_cache(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "overlay", "merged"):
        (tmp_path / name).mkdir()
    # A real file on OverlayFS is one level too deep for stack_depth 1: BACKING_OPEN says ELOOP.
    KERNEL.mount([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work", tmp_path / "overlay")
    fake = FakeFilesystem(tmp_path / "overlay")
    node = fake.add(b"f", b"lower")
    try:
        with served(tmp_path / "merged", fake, SessionSettings(data_path="passthrough", stack_depth=1)) as running:
            path = tmp_path / "merged" / "f"
            assert path.read_bytes() == b"lower"
            with path.open("r+b") as file:
                file.write(b"LOWER")
            assert path.read_bytes() == b"LOWER"
            assert fake.content(node) == b"LOWER"
            assert running.session.counters["backing_refused"] == 1
    finally:
        KERNEL.umount(tmp_path / "overlay")
