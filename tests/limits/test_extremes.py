"""The largest and smallest values that an inode may have, through copy-up and a remount."""

from __future__ import annotations

import os
from pathlib import Path

from tests.behaviour.union import Mounted

from .mounted import check, mounting
from .scale import LINKS

_LARGEST_ID = 0xFFFF_FFFE
"""One less than the id that means "no change" in chown(2)."""
_SECOND = 1_000_000_000
_TIMES = {"1901": -(2**31), "1969": -1, "2038": 2**31, "2106": 2**32, "2400": 13_569_465_600}
"""Seconds since 1970; 2400 is more than even ext4 has room for with small inodes."""
_LARGEST_VALUE = 64 << 10
"""XATTR_SIZE_MAX, xattr(7)."""
_LARGEST_HOLED = 1 << 20
"""Bytes on disk: more than a few bytes at the end take anywhere."""


def _times(path: Path) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_atime_ns, status.st_mtime_ns


def test_times_outside_of_32_bits_stay(unmounted: Mounted) -> None:
    kept = {name: (seconds * _SECOND + 1, seconds * _SECOND + 999_999_999) for name, seconds in _TIMES.items()}
    for name, times in kept.items():
        _make_with_times(unmounted.lowers[0] / name, times)
    with mounting(unmounted) as top:
        assert {name: _times(top / name) for name in kept} == kept
        for name, times in kept.items():
            os.chmod(top / name, 0o600)
            _make_with_times(top / f"new-{name}", times)
    with mounting(unmounted) as top:
        assert {name: _times(top / name) for name in kept} == kept
        assert {name: _times(top / f"new-{name}") for name in kept} == kept


def _make_with_times(path: Path, times: tuple[int, int]) -> None:
    path.write_bytes(b"")
    os.utime(path, ns=times)


def test_largest_owner_is_kept_by_copy_up_and_chown(unmounted: Mounted) -> None:
    lower = unmounted.lowers[0] / "lower"
    lower.write_bytes(b"")
    os.chown(lower, _LARGEST_ID, _LARGEST_ID)
    with mounting(unmounted) as top:
        os.chmod(top / "lower", 0o600)
        (top / "new").write_bytes(b"")
        os.chown(top / "new", _LARGEST_ID, _LARGEST_ID)
        for name in ("lower", "new"):
            assert (os.stat(top / name).st_uid, os.stat(top / name).st_gid) == (_LARGEST_ID, _LARGEST_ID)
    assert os.stat(unmounted.upper / "lower").st_uid == _LARGEST_ID


def test_longest_symlinks_are_made_read_and_copied_up(unmounted: Mounted) -> None:
    targets = {f"of{size}": (("t" * 99 + "/") * 41)[:size] for size in (1, 1023, 4095)}
    for name, target in targets.items():
        os.symlink(target, unmounted.lowers[0] / name)
    with mounting(unmounted) as top:
        for name, target in targets.items():
            os.symlink(target, top / f"new-{name}")
            os.lchown(top / name, 7, 7)
            assert os.readlink(top / name) == os.readlink(top / f"new-{name}") == target
    for name, target in targets.items():
        assert os.readlink(unmounted.upper / name) == target


def test_one_file_has_very_many_names(unmounted: Mounted) -> None:
    with mounting(unmounted) as top:
        first = top / "first"
        first.write_bytes(b"one")
        for number in range(LINKS - 1):
            os.link(first, top / f"name{number}")
        assert os.stat(first).st_nlink == os.stat(top / "name0").st_nlink == LINKS
        assert (top / f"name{LINKS - 2}").read_bytes() == b"one"
        for number in range(LINKS - 1):
            os.unlink(top / f"name{number}")
        assert os.stat(first).st_nlink == 1


def test_lower_file_of_very_many_names_keeps_them_in_the_index(unmounted: Mounted) -> None:
    lower = unmounted.lowers[0]
    (lower / "first").write_bytes(b"before")
    for number in range(LINKS - 1):
        os.link(lower / "first", lower / f"name{number}")
    with mounting(unmounted, "index=on") as top:
        (top / "name0").write_bytes(b"after")
        assert os.stat(top / "first").st_nlink == LINKS
        assert (top / f"name{LINKS - 2}").read_bytes() == b"after"
        os.unlink(top / "name0")
        assert os.stat(top / "first").st_nlink == LINKS - 1
    check(unmounted)


def test_largest_and_many_attributes_are_copied_up(unmounted: Mounted) -> None:
    values = {f"user.attribute{number}": b"v%d" % number for number in range(100)}
    lower = unmounted.lowers[0] / "lower"
    lower.write_bytes(b"")
    for key, value in values.items():
        os.setxattr(lower, key, value)
    large = unmounted.lowers[0] / "large"
    large.write_bytes(b"")
    os.setxattr(large, "user.large", b"l" * _LARGEST_VALUE)
    with mounting(unmounted) as top:
        os.chmod(top / "lower", 0o600)
        os.chmod(top / "large", 0o600)
        (top / "new").write_bytes(b"")
        os.setxattr(top / "new", "user.large", b"n" * _LARGEST_VALUE)
        assert {key: os.getxattr(top / "lower", key) for key in os.listxattr(top / "lower")} == values
        assert os.getxattr(top / "large", "user.large") == b"l" * _LARGEST_VALUE
        assert os.getxattr(top / "new", "user.large") == b"n" * _LARGEST_VALUE
    assert os.getxattr(unmounted.upper / "large", "user.large") == b"l" * _LARGEST_VALUE


def test_sparse_files_beyond_32_bits_are_written_and_copied_up_with_their_holes(unmounted: Mounted) -> None:
    offsets = (2**32 + 1, 2**40 + 1, 2**43)
    for offset in offsets:
        _write_at(unmounted.lowers[0] / f"lower{offset}", offset, b"far out")
    with mounting(unmounted) as top:
        for offset in offsets:
            _write_at(top / f"new{offset}", offset, b"far out")
            _write_at(top / f"lower{offset}", offset + 7, b", and further")
            _holds_only(top / f"new{offset}", offset, b"far out")
            _holds_only(top / f"lower{offset}", offset, b"far out, and further")
    for offset in offsets:
        _holds_only(unmounted.upper / f"lower{offset}", offset, b"far out, and further")


def _holds_only(path: Path, offset: int, end: bytes) -> None:
    """A hole up to ``offset``, and these bytes."""
    status = os.stat(path)
    assert status.st_size == offset + len(end)
    assert status.st_blocks * 512 < _LARGEST_HOLED
    assert _read_at(path, offset, 100) == end


def _write_at(path: Path, offset: int, data: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        assert os.pwrite(fd, data, offset) == len(data)
    finally:
        os.close(fd)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.lseek(fd, 0, os.SEEK_END) > offset
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)
