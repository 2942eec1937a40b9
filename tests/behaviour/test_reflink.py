"""Copies that share their blocks, where the filesystem of the layers can: btrfs, XFS."""

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
LARGE = DATA * 64


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mounted filesystem of its own whose files can share blocks."""
    directory = tmp_path_factory.mktemp(request.param)
    image, mount_point = directory / "image", directory / "mounted"
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    subprocess.run([f"mkfs.{request.param}", "-q", image], check=True, timeout=60, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, mount_point], check=True, timeout=60)
    yield mount_point
    subprocess.run(["umount", mount_point], check=True, timeout=60)


@pytest.fixture
def mounted(disk: Path, backend: Backend) -> Iterator[Mounted]:
    """A union of one lower with its layers on ``disk``, not mounted yet."""
    top = disk / backend.name
    top.mkdir()
    mounted = Mounted(backend, top, 1)
    yield mounted
    mounted.umount()
    subprocess.run(["rm", "-r", top], check=True, timeout=60)


@pytest.fixture
def union(mounted: Mounted) -> Iterator[Union]:
    union = Union.in_mount(mounted, Layers.of_marker({"source": DATA}))
    mounted.mount()
    yield union
    assert union.changed_in_lowers() == []


def shares_its_blocks(path: Path) -> bool:
    """Whether the filesystem has another reference to each extent of the file."""
    with opened(path, os.O_RDONLY) as fd:
        os.fsync(fd)  # only what is on disk has extents
    shown = subprocess.run(["filefrag", "-v", path], check=True, timeout=60, capture_output=True, text=True).stdout
    extents = [line for line in shown.splitlines() if line.split(":")[0].strip().isdigit()]
    assert extents
    return all("shared" in line for line in extents)


def test_copy_file_range_shares_the_blocks_of_a_lower_file(union: Union) -> None:
    with opened(union.merged / "source", os.O_RDONLY) as source, opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as target:
        assert os.copy_file_range(source, target, len(DATA)) == len(DATA)
    assert (union.merged / "f").read_bytes() == DATA
    assert shares_its_blocks(union.upper / "f") == union.deviates("copied-ranges", kernel=True, ours=False)
    with opened(union.merged / "f", os.O_RDWR) as target:
        os.pwrite(target, b"changed", 0)
    assert (union.merged / "source").read_bytes() == DATA
    assert (union.merged / "f").read_bytes() == b"changed" + DATA[7:]


def used(disk: Path) -> int:
    """Bytes in use, after all that was written has its place."""
    subprocess.run(["sync", "--file-system", disk], check=True, timeout=60)
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_copy_up_of_a_large_file_takes_no_space(mounted: Mounted, disk: Path) -> None:
    (mounted.lowers[0] / "large").write_bytes(LARGE)
    mounted.mount()
    before = used(disk)
    with opened(mounted.merged / "large", os.O_WRONLY) as fd:
        os.pwrite(fd, b"!", 0)  # at the end XFS would reserve many blocks for more
    assert used(disk) - before < MIB
    assert (mounted.merged / "large").read_bytes() == b"!" + LARGE[1:]
    assert (mounted.lowers[0] / "large").read_bytes() == LARGE


def test_copy_up_shares_the_blocks_of_small_files_and_of_larger_ones(mounted: Mounted) -> None:
    for size in (8 * 1024, MIB):
        (mounted.lowers[0] / str(size)).write_bytes(DATA[:size])
    mounted.mount()
    for copied in (mounted.upper / name for name in os.listdir(mounted.lowers[0])):
        (mounted.merged / copied.name).chmod(0o600)
        assert copied.read_bytes() == DATA[: int(copied.name)]
        assert shares_its_blocks(copied)


def test_copy_up_from_another_filesystem_has_blocks_of_its_own(mounted: Mounted, tmp_path: Path) -> None:
    mounted.lowers[0] = tmp_path / "lower"
    mounted.lowers[0].mkdir()
    for name in ("f", "g"):
        (mounted.lowers[0] / name).write_bytes(DATA)
    mounted.mount()
    for name in ("f", "g"):
        (mounted.merged / name).chmod(0o600)
        assert (mounted.upper / name).read_bytes() == DATA
        assert not shares_its_blocks(mounted.upper / name)


def test_clone_of_a_whole_file(union: Union) -> None:
    with opened(union.merged / "source", os.O_RDONLY) as source, opened(union.merged / "f", os.O_CREAT | os.O_RDWR) as target:
        if union.deviates("clone-ioctl", kernel=True, ours=False):
            fcntl.ioctl(target, FICLONE, source)
            assert os.pread(target, len(DATA), 0) == DATA
        else:
            with fails_with(errno.EOPNOTSUPP):
                fcntl.ioctl(target, FICLONE, source)
