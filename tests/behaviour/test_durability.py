"""What is made durable, and when: ``fsync=`` and ``volatile``, fsync(2) and sync(2) on a disk that fails."""

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

from .layers import FIFO, File, Symlink
from .process import all_at_once
from .syscalls import fails_with, opened
from .union import Layers, Mounted, Union

KIB = 1024
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


@pytest.mark.layers(
    {"d/e/f": b"data", "d/e/g": File(b"", mode=0o600), "d/e/link": Symlink("f"), "d/e/fifo": FIFO, "h": b"h" * MIB}
)
@pytest.mark.mount_options("fsync=strict", "redirect_dir=on", "metacopy=on")
def test_copy_up_is_the_same_with_strict_durability(own_union: Union) -> None:
    merged = own_union.merged
    before = (merged / "d").stat().st_mtime_ns
    all_at_once([lambda: Path("d/e/f").chmod(0o640), lambda: Path("d/e/g").chmod(0o640)] * 2, cwd=merged)
    assert (merged / "d").stat().st_mtime_ns == before
    all_at_once([lambda: Path("h").chmod(0o640), lambda: Path("h").write_bytes(b"new")], cwd=merged)
    os.chown(merged / "d/e/link", 3, 4, follow_symlinks=False)
    os.chown(merged / "d/e/fifo", 3, 4)
    (merged / "d").rename(merged / "moved")
    (merged / "moved/e/f").unlink()
    own_union.remount()
    assert own_union.names("moved/e") == ["fifo", "g", "link"]
    assert (merged / "moved/e/g").stat().st_mode & 0o7777 == 0o640
    assert (merged / "moved/e/link").lstat().st_gid == 4
    assert ((merged / "h").read_bytes(), (merged / "h").stat().st_mode & 0o7777) == (b"new", 0o640)
    assert sorted(path.name for path in (own_union.mounted.work / "work").iterdir() if not path.is_char_device()) == []


@dataclass
class Disk:
    """A filesystem on a disk in ``memory``."""

    memory: Path
    top: Path

    @property
    def image(self) -> Path:
        """What the disk holds."""
        return self.memory / "image"

    def fail(self) -> None:
        """Writing new blocks fails from now on.  What the filesystem needs for itself it has written before: it stays sound."""
        subprocess.run(["sync", "--file-system", self.top], check=True, timeout=60)
        with (self.memory / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
            while rest.write(bytes(MIB)):
                pass


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "memory", tmp_path / "disk")
    disk.memory.mkdir()
    disk.top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", disk.memory], check=True, timeout=60)
    with disk.image.open("wb") as file:
        file.truncate(32 * MIB)
    # Without a journal: that would end all writing at the first error.
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", disk.image], check=True, timeout=60)
    subprocess.run(["mount", "-o", "loop", disk.image, disk.top], check=True, timeout=60)
    yield disk
    (disk.memory / "rest").unlink(missing_ok=True)
    subprocess.run(["umount", disk.top], check=True, timeout=60)
    subprocess.run(["umount", disk.memory], check=True, timeout=60)


@pytest.fixture
def union_on_disk(request: pytest.FixtureRequest, disk: Disk, backend: Backend) -> Iterator[Union]:
    """A union with an empty file ``f``."""
    options = request.node.get_closest_marker("mount_options")
    mounted = Mounted(backend, disk.top, 1, options=options.args if options else ())
    union = Union.in_mount(mounted, Layers.of_marker())
    mounted.mount()
    (union.merged / "f").write_bytes(b"")
    yield union
    mounted.umount()


def test_fsync_writes_to_the_disk_and_tells_if_that_failed(disk: Disk, union_on_disk: Union) -> None:
    with opened(union_on_disk.merged / "f", os.O_WRONLY) as fd:
        os.write(fd, b"synced" * KIB)
        os.fsync(fd)
        assert b"synced" * KIB in disk.image.read_bytes()
        disk.fail()
        os.write(fd, bytes(MIB))
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which of the two depends on who finds it
            os.fsync(fd)
    assert caught.value.errno in (errno.EIO, errno.ENOSPC)


@pytest.mark.mount_options("volatile")
def test_fsync_of_a_volatile_mount_writes_nothing_and_its_errors_stay(disk: Disk, union_on_disk: Union) -> None:
    union = union_on_disk
    disk.fail()
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


def test_sync_of_the_mount_syncs_the_upper(disk: Disk, union_on_disk: Union) -> None:
    with opened(union_on_disk.merged / "f", os.O_WRONLY) as fd:  # not by O_TRUNC: ext4 writes such a file back at its close
        os.write(fd, b"synced" * KIB)
    subprocess.run(["sync", "--file-system", union_on_disk.merged], timeout=60, check=True)
    is_on_disk = b"synced" * KIB in disk.image.read_bytes()
    assert is_on_disk is union_on_disk.deviates("syncfs", kernel=True, ours=False)
