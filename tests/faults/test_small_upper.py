"""The real thing, under a mount: an upper without room, without inodes, read-only; and a daemon without descriptors."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.mounted import BIG, SmallUpper, mount_ext4, no_more_files, number, remount, umount, until_done
from tests.mounts import DIRECT, DIRECT_CACHED, PYFUSE3, Backend, run_unionfs

BACKENDS = pytest.mark.parametrize("backend", [DIRECT, PYFUSE3], ids=lambda backend: backend.name)


@pytest.fixture
def union(tmp_path: Path, backend: Backend) -> Iterator[SmallUpper]:
    """On an ext4 of 8 MiB; mounted, and checked at the end."""
    union = SmallUpper(tmp_path, backend)
    mount_ext4(tmp_path / "image", union.disk, 8 << 20, 256)
    union.start()
    yield union
    union.stop()
    union.check()
    umount(union.disk)


def changes(merged: Path) -> dict[str, Callable[[], object]]:
    """Changes that need room on the disk: for what is copied up, for a block of a directory, a symbolic link, attributes."""
    return {
        "write to a lower file": lambda: open_and(merged / "d/big", os.O_WRONLY, lambda fd: os.pwrite(fd, b"B", 5)),
        "truncate": lambda: os.truncate(merged / "d/big", 70_000),
        "chmod": lambda: (merged / "d/big").chmod(0o600),
        "chown": lambda: os.chown(merged / "d/big", 1, 1),
        "utimens": lambda: os.utime(merged / "d/big", ns=(1, 1)),
        "setxattr": lambda: os.setxattr(merged / "d/big", "user.new", b"value"),
        "large attribute": lambda: os.setxattr(merged / "d/small", "user.large", b"v" * 600),
        "link": lambda: os.link(merged / "d/big", merged / "d/linked"),
        "mkdir": lambda: (merged / "d/made").mkdir(),
        "long symbolic link": lambda: (merged / "d/symbolic").symlink_to("l" * 100),
        "create below a lower directory": lambda: (merged / "deep/er/new").touch(),
        "unlink below a lower directory": lambda: (merged / "deep/er/other").unlink(),
        "rename of a directory": lambda: (merged / "deep").rename(merged / "d/deep"),
        "rename": lambda: (merged / "d/big").rename(merged / "d/moved"),
    }


def open_and(path: Path, flags: int, use: Callable[[int], object]) -> None:
    fd = os.open(path, flags)
    try:
        use(fd)
    finally:
        os.close(fd)


@BACKENDS
def test_full_disk_refuses_what_needs_room_and_all_works_when_there_is_some(union: SmallUpper) -> None:
    merged = union.merged
    (merged / "d/gone").unlink()  # so d is in the upper: what is refused below is refused for itself
    filler = union.fill("filler")
    size = filler.stat().st_size
    before = union.tree()
    refused = changes(merged)
    assert {name: errno.errorcode.get(number(change)) for name, change in refused.items()} == dict.fromkeys(refused, "ENOSPC")
    assert union.tree() == before
    # What needs none goes on.
    (merged / "d/small").unlink()
    assert not (merged / "d/small").exists()
    assert (merged / "d/big").read_bytes() == BIG
    assert os.statvfs(merged).f_bavail == 0
    assert filler.read_bytes() == b"x" * size
    filler.unlink()
    (merged / "d/small").write_bytes(b"again")
    for change in refused.values():
        until_done(change, but=errno.ENOSPC)
    assert (merged / "d/moved").read_bytes() == (BIG[:5] + b"B" + BIG[6:])[:70_000]
    assert (merged / "d/deep/er/file").read_bytes() == b"file"


@BACKENDS
def test_read_only_upper_refuses_changes_until_it_is_writable_again(union: SmallUpper) -> None:
    merged = union.merged
    (merged / "d/gone").unlink()
    before = union.tree()
    remount(union.disk, "ro")
    refused = changes(merged)
    assert {name: errno.errorcode.get(number(change)) for name, change in refused.items()} == dict.fromkeys(refused, "EROFS")
    assert number((merged / "d/small").unlink) == errno.EROFS
    assert union.tree() == before
    remount(union.disk, "rw")
    for change in refused.values():
        assert number(change) == 0
    assert (merged / "d/deep/er/file").read_bytes() == b"file"


@pytest.fixture
def few_inodes(tmp_path: Path, backend: Backend) -> Iterator[SmallUpper]:
    """On a tmpfs with few inodes: there each name takes one, also that of a hard link."""
    union = SmallUpper(tmp_path, backend)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=32", "none", union.disk], check=True)
    union.start()
    yield union
    union.stop()
    union.check()
    umount(union.disk)


@BACKENDS
def test_without_inodes_nothing_is_made_or_hidden_until_some_are_free(few_inodes: SmallUpper) -> None:
    merged = few_inodes.merged
    (merged / "d/gone").unlink()
    (merged / "many").mkdir()
    made: list[Path] = []
    while number(lambda: (merged / f"many/{len(made)}").touch()) == 0:
        made.append(merged / f"many/{len(made)}")
    before = few_inodes.tree()
    refused = {**changes(merged), "unlink": (merged / "d/small").unlink}
    assert {name: errno.errorcode.get(number(change)) for name, change in refused.items()} == dict.fromkeys(refused, "ENOSPC")
    assert few_inodes.tree() == before
    for path in made:
        path.unlink()
    for change in refused.values():
        until_done(change, but=errno.ENOSPC)
    assert (merged / "d/deep/er/file").read_bytes() == b"file"
    assert not (merged / "d/small").exists()


@pytest.mark.parametrize("backend", [DIRECT, DIRECT_CACHED, PYFUSE3], ids=lambda backend: backend.name)
def test_program_that_writes_until_the_disk_is_full_is_told(union: SmallUpper) -> None:
    """Also where the kernel holds written data back, and finds out later that there is no room for it."""
    fd = os.open(union.merged / "filler", os.O_WRONLY | os.O_CREAT)
    try:
        # A disk of 8 MiB, and what the kernel may hold back.
        assert any(number(lambda: os.write(fd, b"x" * (1 << 20))) == errno.ENOSPC for _ in range(512))
        os.ftruncate(fd, 0)
        # What was lost is gone, and there is room.
        until_done(lambda: os.pwrite(fd, b"again", 0), but=errno.ENOSPC)
        until_done(lambda: os.fsync(fd), but=errno.ENOSPC)
    finally:
        os.close(fd)
    assert (union.merged / "filler").read_bytes() == b"again"
    assert (union.disk / "upper/filler").read_bytes() == b"again"


@BACKENDS
def test_daemon_without_descriptors_goes_on_when_it_has_some(union: SmallUpper) -> None:
    merged = union.merged
    pid = json.loads(run_unionfs(["status", "--json", merged]))["worker"]["pid"]
    has_again = no_more_files(pid)
    refused = changes(merged)
    assert {name: errno.errorcode.get(number(change)) for name, change in refused.items()} == dict.fromkeys(refused, "EMFILE")
    has_again()
    for change in refused.values():
        assert number(change) == 0
    assert (merged / "d/deep/er/file").read_bytes() == b"file"
