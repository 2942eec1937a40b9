"""link(2), and names that share an inode."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from .layers import FIFO, OLD_NS, WHITEOUT, Dir, File, Link, Symlink
from .syscalls import fails_with
from .union import Union

layers = pytest.mark.layers


@layers({"f": File(b"data", uid=7)})
def test_link_of_lower_file_copies_it_up_under_both_names(union: Union) -> None:
    os.link(union.merged / "f", union.merged / "g")
    assert union.names() == ["f", "g"]
    f, g = (union.merged / "f").stat(), (union.merged / "g").stat()
    assert (f.st_ino, f.st_nlink) == (g.st_ino, g.st_nlink)
    assert f.st_nlink == 2
    assert (f.st_uid, f.st_mtime_ns) == (7, OLD_NS)
    assert (union.upper / "f").stat().st_ino == (union.upper / "g").stat().st_ino


@layers({"d/other": b""}, upper={"f": b"data"})
def test_link_of_upper_file_into_another_directory(union: Union) -> None:
    os.link(union.merged / "f", union.merged / "d/g")
    assert (union.merged / "d/g").read_bytes() == b"data"
    assert (union.merged / "f").stat().st_nlink == 2


@layers({"g": b"old"}, upper={"f": b"data", "g": WHITEOUT})
def test_link_onto_a_whiteout(union: Union) -> None:
    os.link(union.merged / "f", union.merged / "g")
    assert (union.merged / "g").read_bytes() == b"data"
    assert (union.merged / "f").stat().st_nlink == 2


@layers(upper={"a": b"old", "d/b": Link("a")})
class TestLinksInUpper:
    def test_are_one_inode(self, union: Union) -> None:
        a, b = (union.merged / "a").stat(), (union.merged / "d/b").stat()
        assert (a.st_ino, a.st_dev, a.st_nlink) == (b.st_ino, b.st_dev, 2)

    def test_write_through_one_name_shows_in_the_other(self, union: Union) -> None:
        with (union.merged / "d/b").open("rb") as reader:
            (union.merged / "a").write_bytes(b"new data")
            assert reader.read() == b"new data"
        assert (union.merged / "d/b").read_bytes() == b"new data"
        assert (union.merged / "d/b").stat().st_size == 8

    def test_metadata_change_through_one_name_shows_in_the_other(self, union: Union) -> None:
        (union.merged / "d/b").stat()
        os.chmod(union.merged / "a", 0o600)
        os.setxattr(union.merged / "a", "user.x", b"1")
        assert stat.S_IMODE((union.merged / "d/b").stat().st_mode) == 0o600
        assert os.getxattr(union.merged / "d/b", "user.x") == b"1"

    def test_unlink_of_one_keeps_the_other(self, union: Union) -> None:
        (union.merged / "d/b").stat()
        (union.merged / "a").unlink()
        assert (union.merged / "d/b").read_bytes() == b"old"
        assert (union.merged / "d/b").stat().st_nlink == 1

    def test_rename_of_one_keeps_the_other(self, union: Union) -> None:
        (union.merged / "a").rename(union.merged / "d/c")
        assert (union.merged / "d/c").stat().st_ino == (union.merged / "d/b").stat().st_ino
        assert (union.merged / "d/b").stat().st_nlink == 2

    def test_third_name_counts(self, union: Union) -> None:
        os.link(union.merged / "a", union.merged / "d/c")
        assert [(union.merged / name).stat().st_nlink for name in ("a", "d/b", "d/c")] == [3, 3, 3]
        (union.merged / "d/c").unlink()
        assert [(union.merged / name).stat().st_nlink for name in ("a", "d/b")] == [2, 2]


def test_links_made_through_the_mount_are_one_inode(union: Union) -> None:
    (union.merged / "a").write_bytes(b"x")
    for name in ("b", "c"):
        os.link(union.merged / "a", union.merged / name)
    (union.merged / "b").write_bytes(b"new")
    assert [(union.merged / name).read_bytes() for name in "abc"] == [b"new"] * 3
    assert {(union.merged / name).stat().st_ino for name in "abc"} == {(union.merged / "a").stat().st_ino}


@layers({"a": b"old", "b": Link("a")})
def test_lower_hard_links_show_their_count(union: Union) -> None:
    assert [(union.merged / name).stat().st_nlink for name in "ab"] == [2, 2]


@layers({"a": b"old", "b": Link("a")})
def test_copy_up_breaks_a_lower_hard_link(union: Union) -> None:
    (union.merged / "a").write_bytes(b"new")
    assert (union.merged / "a").read_bytes() == b"new"
    assert (union.merged / "b").read_bytes() == b"old"
    assert (union.merged / "a").stat().st_nlink == 1


@layers({"link": Symlink("nowhere"), "fifo": FIFO})
@pytest.mark.parametrize("name", ["link", "fifo"])
def test_special_objects_can_be_linked(union: Union, name: str) -> None:
    os.link(union.merged / name, union.merged / "second", follow_symlinks=False)
    one, two = (union.merged / name).lstat(), (union.merged / "second").lstat()
    assert (one.st_ino, one.st_mode, one.st_nlink) == (two.st_ino, two.st_mode, 2)


@layers({"f": b"data"})
def test_link_of_an_open_descriptor_sees_later_writes(union: Union) -> None:
    with (union.merged / "f").open("r+b") as file:
        os.link(union.merged / "f", union.merged / "g")
        file.write(b"DATA")
    assert (union.merged / "g").read_bytes() == b"DATA"


@layers({"d": Dir(), "f": b"", "g": b""})
def test_errors_of_link(union: Union) -> None:
    merged = union.merged
    for number, old, new in [
        (errno.EPERM, "d", "new"),
        (errno.EEXIST, "f", "g"),
        (errno.EEXIST, "f", "d"),
        (errno.ENOENT, "none", "new"),
        (errno.ENOENT, "f", "none/new"),
        (errno.ENOTDIR, "f", "g/new"),
        (errno.ENAMETOOLONG, "f", "x" * 256),
    ]:
        with fails_with(number):
            os.link(merged / old, merged / new)
    assert union.names() == ["d", "f", "g"]
    assert (merged / "f").stat().st_nlink == 1
