"""stat(2) and what changes it: modes, owners, times, and numbers that stay the same."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .layers import FIFO, OLD_NS, SOCKET, Dir, File, Link, Special, Symlink
from .syscalls import fails_with, opened
from .union import Union

layers = pytest.mark.layers

EVERY_KIND = {
    "file": File(b"data", mode=0o640, uid=1, gid=2),
    "directory": Dir(mode=0o1750, uid=3, gid=4),
    "directory/inner": b"",
    "link": Symlink("file", uid=5, gid=6),
    "fifo": FIFO,
    "socket": SOCKET,
    "char": Special(stat.S_IFCHR, os.makedev(1, 3), uid=9),
    "block": Special(stat.S_IFBLK, os.makedev(259, 70000)),
}


@layers(EVERY_KIND)
@pytest.mark.parametrize("name", [name for name in EVERY_KIND if "/" not in name])
def test_attributes_are_those_of_the_real_object(union: Union, name: str) -> None:
    shown, real = (union.merged / name).lstat(), (union.lower / name).lstat()
    for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns", "st_blocks", "st_rdev"):
        assert getattr(shown, field) == getattr(real, field), field
    if name != "directory":
        assert shown.st_nlink == real.st_nlink


@layers(EVERY_KIND, upper={"upper/file": b"x"})
def test_st_dev_is_uniform_and_st_ino_unique(union: Union) -> None:
    found = [union.merged, *union.merged.rglob("*")]
    status = [path.lstat() for path in found]
    assert {each.st_dev for each in status} == {union.merged.stat().st_dev}
    assert len({each.st_ino for each in status}) == len(found)


CHANGES: dict[str, Callable[[Path], object]] = {
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, 1, 1),
    "utimes": lambda path: os.utime(path),
    "write": lambda path: path.write_bytes(b"new"),
    "rename": lambda path: (path.rename(path.with_name("temporary")), path.with_name("temporary").rename(path)),
}


@layers({"f": b"data"})
@pytest.mark.parametrize("change", CHANGES)
def test_st_ino_of_a_file_is_constant_across_copy_up(union: Union, change: str) -> None:
    before = (union.merged / "f").stat()
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        CHANGES[change](union.merged / "f")
        after = (union.merged / "f").stat()
        assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
        assert os.fstat(fd).st_ino == before.st_ino
    assert union.is_copied_up("f")


@layers([{"d/f": b""}, {"d/g": b""}])
def test_st_ino_of_a_directory_is_constant_across_copy_up(union: Union) -> None:
    before = (union.merged / "d").stat()
    os.chmod(union.merged / "d", 0o700)
    (union.merged / "d/new").touch()
    after = (union.merged / "d").stat()
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)


@layers({"f": b"", "link": Symlink("x"), "fifo": FIFO, "d": Dir()})
@pytest.mark.parametrize("name", ["f", "link", "fifo", "d"])
def test_times_are_set_to_the_nanosecond(union: Union, name: str) -> None:
    for atime, mtime in [(1, 2), (1_700_000_000_123_456_789, 1_600_000_000_987_654_321), (0, 4_000_000_000_000_000_001)]:
        os.utime(union.merged / name, ns=(atime, mtime), follow_symlinks=False)
        status = (union.merged / name).lstat()
        assert (status.st_atime_ns, status.st_mtime_ns) == (atime, mtime)
        assert (union.upper / name).lstat().st_mtime_ns == mtime


@layers({"f": b""})
def test_times_before_the_epoch_are_kept(union: Union) -> None:
    os.utime(union.merged / "f", ns=(-1_500_000_000, -3_000_000_001))
    assert (union.merged / "f").stat().st_mtime_ns == -3_000_000_001
    assert (union.upper / "f").stat().st_mtime_ns == -3_000_000_001


@layers({"f": b""})
def test_times_set_to_now(union: Union) -> None:
    before = time.time_ns()
    os.utime(union.merged / "f")
    status = (union.merged / "f").stat()
    # The kernel's clock for file times ticks up to 10 ms behind (CLOCK_REALTIME_COARSE).
    for shown in (status.st_atime_ns, status.st_mtime_ns):
        assert before - 20_000_000 <= shown <= time.time_ns()


@layers({"f": b"x", "d/g": b""})
@pytest.mark.parametrize("name", ["f", "d"])
def test_chmod_and_chown_move_ctime_only(union: Union, name: str) -> None:
    for change in (lambda path: os.chmod(path, 0o700), lambda path: os.chown(path, 3, 4)):
        before = (union.merged / name).stat()
        change(union.merged / name)
        after = (union.merged / name).stat()
        assert after.st_mtime_ns == before.st_mtime_ns == OLD_NS
        assert after.st_ctime_ns > before.st_ctime_ns


@layers({"f": b"data", "d/x": b"", "link": Symlink("f")}, upper={"own": b"data"})
@pytest.mark.parametrize("name", ["f", "d", "link", "own"])
def test_chown_that_names_nobody_moves_ctime_only(union: Union, name: str) -> None:
    path = union.merged / name
    before = path.lstat()
    os.chown(path, -1, -1, follow_symlinks=False)
    after = path.lstat()
    assert after.st_ctime_ns > before.st_ctime_ns
    assert (after.st_uid, after.st_gid, after.st_mtime_ns) == (before.st_uid, before.st_gid, before.st_mtime_ns)


@layers({"f": b"", "d": Dir(), "fifo": FIFO})
@pytest.mark.parametrize("name", ["f", "d", "fifo"])
@pytest.mark.parametrize("mode", [0, 0o777, 0o4711, 0o2755, 0o1777, 0o7777])
def test_chmod_sets_every_bit(union: Union, name: str, mode: int) -> None:
    os.chmod(union.merged / name, mode)
    assert stat.S_IMODE((union.merged / name).lstat().st_mode) == mode
    assert stat.S_IMODE((union.upper / name).lstat().st_mode) == mode


@layers({"f": File(uid=1, gid=2)})
@pytest.mark.parametrize(
    ("uid", "gid", "owner"), [(7, -1, (7, 2)), (-1, 8, (1, 8)), (4_000_000_000, 3_000_000_000, (4_000_000_000, 3_000_000_000))]
)
def test_chown_changes_what_it_is_told(union: Union, uid: int, gid: int, owner: tuple[int, int]) -> None:
    os.chown(union.merged / "f", uid, gid)
    for path in (union.merged / "f", union.upper / "f"):
        assert (path.stat().st_uid, path.stat().st_gid) == owner


@layers({"f": File(mode=0o6755), "d": Dir(mode=0o2755)})
def test_chown_drops_set_id_bits_of_a_file(union: Union) -> None:
    os.chown(union.merged / "f", 5, 5)
    os.chown(union.merged / "d", 5, 5)
    assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o755
    assert stat.S_IMODE((union.merged / "d").stat().st_mode) == 0o2755


@layers({"f": b"data"})
def test_changes_by_descriptor(union: Union) -> None:
    with opened(union.merged / "f", os.O_RDONLY) as fd:
        os.fchmod(fd, 0o604)
        os.fchown(fd, 11, 12)
        os.utime(fd, ns=(5, 6))
        status = os.fstat(fd)
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns) == (0o604, 11, 12, 6)
    assert (union.merged / "f").stat().st_uid == 11
    assert (union.upper / "f").stat().st_mtime_ns == 6


@layers({"f": b"", "link": Symlink("f")})
def test_chmod_of_a_symlink_changes_its_target(union: Union) -> None:
    os.chmod(union.merged / "link", 0o600)
    assert stat.S_IMODE((union.merged / "f").stat().st_mode) == 0o600
    assert not union.is_copied_up("link")


@layers({"f": b"x"})
def test_atime_of_a_lower_file_is_not_touched_by_reading(union: Union) -> None:
    before = (union.lower / "f").stat().st_atime_ns
    (union.merged / "f").read_bytes()
    assert (union.lower / "f").stat().st_atime_ns == before


@layers({"a": b"", "b": Link("a"), "d/e/f": b""})
def test_missing_paths_are_enoent_or_enotdir(union: Union) -> None:
    for number, name in [(errno.ENOENT, "none"), (errno.ENOENT, "none/x"), (errno.ENOTDIR, "a/x"), (errno.ENOENT, "d/e/none")]:
        for call in (os.stat, os.lstat, os.listdir, lambda path: os.chmod(path, 0), os.utime):
            with fails_with(number):
                call(union.merged / name)


@layers({"f": b"x"})
def test_name_that_was_missing_is_seen_once_it_is_made(union: Union) -> None:
    assert not (union.merged / "new").exists()
    (union.merged / "f").rename(union.merged / "new")
    assert (union.merged / "new").exists()
    assert not (union.merged / "f").exists()
    (union.merged / "new").unlink()
    assert not (union.merged / "new").exists()
    (union.merged / "new").mkdir()
    assert (union.merged / "new").is_dir()
