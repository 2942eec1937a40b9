"""Copies that share their blocks, where the filesystem of the layers can: btrfs."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts import Backend

from .syscalls import fails_with, opened
from .union import Layers, Mounted, Union

FICLONE = 0x40049409
MIB = 1 << 20
DATA = bytes(range(256)) * 4 * 1024


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted btrfs of its own."""
    directory = tmp_path_factory.mktemp("btrfs")
    image, mount_point = directory / "image", directory / "mounted"
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, timeout=60, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, mount_point], check=True, timeout=60)
    yield mount_point
    subprocess.run(["umount", mount_point], check=True, timeout=60)


@pytest.fixture
def union_on_btrfs(btrfs: Path, backend: Backend) -> Iterator[Union]:
    top = btrfs / backend.name
    top.mkdir()
    mounted = Mounted(backend, top, 1)
    union = Union.in_mount(mounted, Layers.of_marker({"source": DATA}))
    mounted.mount()
    yield union
    mounted.umount()
    assert union.changed_in_lowers() == []
    subprocess.run(["rm", "-r", top], check=True, timeout=60)


def shares_its_blocks(path: Path) -> bool:
    """Whether btrfs has another reference to each extent of the file."""
    with opened(path, os.O_RDONLY) as fd:
        os.fsync(fd)  # only what is on disk has extents
    shown = subprocess.run(["filefrag", "-v", path], check=True, timeout=60, capture_output=True, text=True).stdout
    extents = [line for line in shown.splitlines() if line.split(":")[0].strip().isdigit()]
    assert extents
    return all("shared" in line for line in extents)


def test_copy_file_range_shares_the_blocks_of_a_lower_file(union_on_btrfs: Union) -> None:
    union = union_on_btrfs
    with opened(union.merged / "source", os.O_RDONLY) as source, opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as target:
        assert os.copy_file_range(source, target, len(DATA)) == len(DATA)
    assert (union.merged / "f").read_bytes() == DATA
    assert shares_its_blocks(union.upper / "f") == union.deviates("copied-ranges", kernel=True, ours=False)
    with opened(union.merged / "f", os.O_RDWR) as target:
        os.pwrite(target, b"changed", 0)
    assert (union.merged / "source").read_bytes() == DATA
    assert (union.merged / "f").read_bytes() == b"changed" + DATA[7:]


def test_copy_up_shares_the_blocks_too(union_on_btrfs: Union) -> None:
    union = union_on_btrfs
    os.utime(union.merged / "source")
    assert shares_its_blocks(union.upper / "source")


def test_clone_of_a_whole_file(union_on_btrfs: Union) -> None:
    union = union_on_btrfs
    with opened(union.merged / "source", os.O_RDONLY) as source, opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as target:
        if union.deviates("clone-ioctl", kernel=True, ours=False):
            fcntl.ioctl(target, FICLONE, source)
            assert os.pread(target, len(DATA), 0) == DATA
        else:
            with fails_with(errno.EOPNOTSUPP):
                fcntl.ioctl(target, FICLONE, source)
