"""Mounts with ``volatile``: nothing is made durable, and the mark that they leave forbids every later mount."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mounts import DIRECT, KERNEL, Backend, MountFailedError

from .syscalls import fails_with, opened
from .union import Layers, Mounted, Union

MIB = 1 << 20


@pytest.mark.mount_options("volatile")
def test_volatile_mark_stays_over_unmount_and_every_backend_refuses_it(own_union: Union) -> None:
    mounted = own_union.mounted
    mark = mounted.work / "work/incompat/volatile"
    assert (mark / "dirty").read_bytes() == b""
    (own_union.merged / "f").write_bytes(b"data")
    mounted.umount()
    for backend in (KERNEL, DIRECT):
        for options in ((), ("volatile",), ("ro",)):
            with pytest.raises(MountFailedError, match=r"incompat|Invalid argument"):
                backend.mount(mounted.lowers, mounted.upper, mounted.work, mounted.merged, options)
    assert (mark / "dirty").exists()
    shutil.rmtree(mark)
    mounted.mount()
    assert (own_union.merged / "f").read_bytes() == b"data"


def test_mount_that_is_not_volatile_leaves_no_mark(own_union: Union) -> None:
    (own_union.merged / "f").write_bytes(b"data")
    own_union.remount()
    assert not (own_union.mounted.work / "work/incompat").exists()


@dataclass
class FailingDisk:
    """A filesystem on a disk in ``memory``, which fails to write new blocks once `fill` was called."""

    memory: Path
    top: Path

    def fill(self) -> None:
        """What the filesystem needs for itself it has written before: it stays sound."""
        subprocess.run(["sync", "--file-system", self.top], check=True, timeout=60)
        with (self.memory / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
            while rest.write(bytes(MIB)):
                pass


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(tmp_path / "memory", tmp_path / "disk")
    disk.memory.mkdir()
    disk.top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", disk.memory], check=True, timeout=60)
    image = disk.memory / "image"
    with image.open("wb") as file:
        file.truncate(32 * MIB)
    # Without a journal: that would end all writing at the first error.
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, disk.top], check=True, timeout=60)
    yield disk
    (disk.memory / "rest").unlink(missing_ok=True)
    subprocess.run(["umount", disk.top], check=True, timeout=60)
    subprocess.run(["umount", disk.memory], check=True, timeout=60)


@pytest.fixture
def union_on_failing_disk(request: pytest.FixtureRequest, failing_disk: FailingDisk, backend: Backend) -> Iterator[Union]:
    """A union with an empty file ``f``."""
    mounted = Mounted(backend, failing_disk.top, 1, options=request.node.get_closest_marker("mount_options").args)
    union = Union.in_mount(mounted, Layers.of_marker())
    mounted.mount()
    (union.merged / "f").write_bytes(b"")
    failing_disk.fill()
    yield union
    mounted.umount()


@pytest.mark.mount_options("noexec")
def test_fsync_tells_that_the_upper_could_not_be_written(union_on_failing_disk: Union) -> None:
    with opened(union_on_failing_disk.merged / "f", os.O_WRONLY) as fd:
        os.write(fd, bytes(MIB))
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which of the two depends on who finds it
            os.fsync(fd)
    assert caught.value.errno in (errno.EIO, errno.ENOSPC)


@pytest.mark.mount_options("volatile")
def test_fsync_of_a_volatile_mount_writes_nothing_and_its_errors_stay(union_on_failing_disk: Union) -> None:
    union = union_on_failing_disk
    with opened(union.merged / "f", os.O_WRONLY) as fd:
        os.write(fd, bytes(MIB))
        os.fsync(fd)
        # Somebody else has it written out.
        assert subprocess.run(["sync", "--file-system", union.upper], timeout=60, check=False, capture_output=True).returncode
        for _ in range(2):
            if union.deviates("volatile-errors", kernel=True, ours=False):
                with fails_with(errno.ENOSPC):
                    os.fsync(fd)
            else:
                os.fsync(fd)
