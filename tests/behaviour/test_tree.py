"""The comparison of trees finds every kind of difference: the other tests rely on it to find nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .layers import FIFO, Dir, File, Link, Special, Symlink, build
from .tree import Snapshot, differences

TREE = {
    "f": File(b"data", xattrs={"user.x": b"1"}),
    "hard": Link("f"),
    "d": Dir(mode=0o1777),
    "d/deep": b"x",
    "link": Symlink("f"),
    "null": Special(stat.S_IFCHR, os.makedev(1, 3)),
    "fifo": FIFO,
}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    build(tmp_path / "tree", TREE)
    return tmp_path / "tree"


def test_same_tree_built_twice_has_no_differences(top: Path, tmp_path: Path) -> None:
    build(tmp_path / "other", TREE)
    assert differences(Snapshot.of(top), Snapshot.of(tmp_path / "other")) == []


def rewrite(path: Path, data: bytes) -> None:
    """Other content, with the mtime as it was."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda top: rewrite(top / "f", b"DATA"), "b'f': sha256"),
        (lambda top: rewrite(top / "f", b"longer"), "b'f': size"),
        (lambda top: (top / "f").chmod(0o600), "b'f': mode"),
        (lambda top: os.chown(top / "link", 5, 0, follow_symlinks=False), "b'link': uid"),
        (lambda top: os.chown(top / "fifo", 0, 5), "b'fifo': gid"),
        (lambda top: os.utime(top / "d", ns=(1, 1)), "b'd': mtime_ns"),
        (lambda top: os.setxattr(top / "f", "user.x", b"2"), "b'f': xattrs"),
        (lambda top: os.removexattr(top / "f", "user.x"), "b'f': xattrs"),
        (lambda top: os.link(top / "f", top / "third"), "b'third': only in the second"),
        (lambda top: (top / "hard").unlink(), "b'hard': only in the first"),
        (lambda top: replace(top / "link", lambda path: path.symlink_to("g")), "b'link': target"),
        (
            lambda top: replace(top / "null", lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))),
            "b'null': device",
        ),
        (lambda top: replace(top / "d/deep", lambda path: path.mkdir()), "b'd/deep': kind"),
        (lambda top: replace(top / "hard", lambda path: rewrite_new(path, top)), "b'f': names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_difference_is_found(top: Path, change: Callable[[Path], object], found: str) -> None:
    before = Snapshot.of(top)
    change(top)
    assert any(line.startswith(found) for line in differences(before, Snapshot.of(top)))


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def rewrite_new(path: Path, top: Path) -> None:
    """A file like ``f``, but one of its own."""
    path.write_bytes((top / "f").read_bytes())


def test_exact_snapshot_finds_a_touch_that_was_undone(top: Path) -> None:
    before = Snapshot.of(top, exact=True)
    (top / "f").chmod(0o600)
    (top / "f").chmod(0o644)
    assert {line.split()[1] for line in differences(before, Snapshot.of(top, exact=True))} == {"ctime_ns"}
