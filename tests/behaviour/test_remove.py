"""unlink and rmdir, what they leave in the upper, and what comes back when the name is made again."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .layers import FIFO, OPAQUE, SOCKET, WHITEOUT, Dir, Special, Symlink
from .syscalls import fails_with
from .union import Union

layers = pytest.mark.layers


@layers({"d/f": b"old", "d/kept": b""})
def test_unlink_of_lower_file_leaves_whiteout(union: Union) -> None:
    (union.merged / "d/f").unlink()
    assert union.names("d") == ["kept"]
    assert union.has_whiteout("d/f")
    with fails_with(errno.ENOENT):
        os.stat(union.merged / "d/f")


@layers({"d/other": b""}, upper={"d/f": b"new"})
def test_unlink_of_pure_upper_file_leaves_nothing(union: Union) -> None:
    (union.merged / "d/f").unlink()
    assert union.names("d") == ["other"]
    assert os.listdir(union.upper / "d") == []


@layers({"f": b"old"}, upper={"f": b"new"})
def test_unlink_of_upper_file_over_lower_file_leaves_whiteout(union: Union) -> None:
    (union.merged / "f").unlink()
    assert union.names() == []
    assert union.has_whiteout("f")


@layers([{}, {"f": b""}, {"f": b""}])
def test_one_whiteout_hides_the_name_in_all_lowers(union: Union) -> None:
    (union.merged / "f").unlink()
    assert union.names() == []


@layers({"link": Symlink("x"), "fifo": FIFO, "socket": SOCKET, "null": Special(stat.S_IFCHR, os.makedev(1, 3))})
def test_unlink_of_special_lower_objects_leaves_whiteouts(union: Union) -> None:
    for name in union.names():
        (union.merged / name).unlink()
        assert union.has_whiteout(name)
    assert union.names() == []


@layers({"d": OPAQUE, "d/f": b""}, upper={"d": OPAQUE, "d/g": b""})
def test_unlink_in_an_opaque_upper_directory_leaves_nothing(union: Union) -> None:
    (union.merged / "d/g").unlink()
    assert os.listdir(union.upper / "d") == []


@layers({"d": Dir(), "e/f": b""})
def test_rmdir_of_empty_lower_directory_leaves_whiteout(union: Union) -> None:
    (union.merged / "d").rmdir()
    assert union.names() == ["e"]
    assert union.has_whiteout("d")


@layers(upper={"d": Dir()})
def test_rmdir_of_pure_upper_directory_leaves_nothing(union: Union) -> None:
    (union.merged / "d").rmdir()
    assert os.listdir(union.upper) == []


@layers([{"d": Dir()}, {"d/f": b""}], upper={"d": Dir()})
def test_rmdir_of_merged_directory_with_a_name_in_any_layer_is_enotempty(union: Union) -> None:
    with fails_with(errno.ENOTEMPTY):
        (union.merged / "d").rmdir()
    assert union.names("d") == ["f"]


@layers({"d/f": b"", "d/g": b""})
def test_rmdir_of_directory_whose_names_were_all_removed(union: Union) -> None:
    (union.merged / "d/f").unlink()
    (union.merged / "d/g").unlink()
    (union.merged / "d").rmdir()
    assert union.names() == []
    assert union.has_whiteout("d")


@layers([{"d": Dir(), "d/f": WHITEOUT}, {"d/f": b""}])
def test_rmdir_of_lower_directory_that_holds_only_whiteouts(union: Union) -> None:
    (union.merged / "d").rmdir()
    assert union.names() == []


@layers({"d/f": b""}, upper={"d": OPAQUE, "d/f": WHITEOUT, "d/g": WHITEOUT})
def test_rmdir_of_upper_directory_that_holds_only_whiteouts(union: Union) -> None:
    (union.merged / "d").rmdir()
    assert union.names() == []
    assert union.has_whiteout("d")


@layers({"a/b/c/f": b"", "a/b/g": b"", "a/h": b""}, upper={"a/b/new": b"", "a/only/upper": b""})
def test_removal_of_a_whole_merged_tree(union: Union) -> None:
    for directory, subdirectories, files in os.walk(union.merged / "a", topdown=False):
        for name in files:
            (Path(directory) / name).unlink()
        for name in subdirectories:
            (Path(directory) / name).rmdir()
    (union.merged / "a").rmdir()
    assert union.names() == []
    assert union.has_whiteout("a")
    assert os.listdir(union.upper) == ["a"]


def make_file(path: Path) -> None:
    path.write_bytes(b"new")


def make_directory(path: Path) -> None:
    path.mkdir()


@layers({"x": b"old"})
@pytest.mark.parametrize(("make", "kind"), [(make_file, stat.S_IFREG), (make_directory, stat.S_IFDIR)], ids=["file", "directory"])
def test_name_of_removed_lower_file_can_be_made_again(union: Union, make: Callable[[Path], None], kind: int) -> None:
    (union.merged / "x").unlink()
    make(union.merged / "x")
    assert stat.S_IFMT((union.merged / "x").lstat().st_mode) == kind
    assert not union.has_whiteout("x")
    if kind == stat.S_IFREG:
        assert (union.merged / "x").read_bytes() == b"new"
    else:
        assert union.names("x") == []


@layers([{"x/one": b"1", "x/sub/deep": b""}, {"x/two": b"2"}])
@pytest.mark.parametrize(("make", "kind"), [(make_file, stat.S_IFREG), (make_directory, stat.S_IFDIR)], ids=["file", "directory"])
def test_name_of_removed_merged_directory_shows_nothing_old_when_made_again(
    union: Union, make: Callable[[Path], None], kind: int
) -> None:
    for name in ("one", "two", "sub/deep"):
        (union.merged / "x" / name).unlink()
    (union.merged / "x/sub").rmdir()
    (union.merged / "x").rmdir()
    make(union.merged / "x")
    assert stat.S_IFMT((union.merged / "x").lstat().st_mode) == kind
    if kind == stat.S_IFDIR:
        assert union.names("x") == []
        assert union.is_opaque("x")
        (union.merged / "x/one").write_bytes(b"new")
        (union.merged / "x/sub").mkdir()
        assert union.names("x") == ["one", "sub"]
        assert union.names("x/sub") == []


@layers({"x": b"old"})
def test_unlink_and_create_may_alternate(union: Union) -> None:
    for number in range(5):
        (union.merged / "x").unlink()
        assert union.has_whiteout("x")
        (union.merged / "x").write_bytes(b"%d" % number)
        assert (union.merged / "x").read_bytes() == b"%d" % number
    assert union.names() == ["x"]


@layers({"f": b"", "d/g": b"", "link": Symlink("d")})
def test_errors_of_unlink_and_rmdir(union: Union) -> None:
    merged = union.merged
    for error, change in [
        (errno.EISDIR, lambda: os.unlink(merged / "d")),
        (errno.ENOTDIR, lambda: os.rmdir(merged / "f")),
        (errno.ENOTDIR, lambda: os.rmdir(merged / "link")),
        (errno.ENOTEMPTY, lambda: os.rmdir(merged / "d")),
        (errno.ENOENT, lambda: os.unlink(merged / "none")),
        (errno.ENOENT, lambda: os.rmdir(merged / "none")),
        (errno.ENOTDIR, lambda: os.unlink(merged / "f/x")),
        (errno.EINVAL, lambda: os.rmdir(f"{merged}/d/.")),
        (errno.ENOTEMPTY, lambda: os.rmdir(f"{merged}/d/..")),
    ]:
        with fails_with(error):
            change()
    assert not union.upper.exists()


@layers({"d/f": b""})
def test_work_directory_keeps_no_leftovers(union: Union) -> None:
    (union.merged / "d/f").unlink()
    (union.merged / "d").rmdir()
    (union.merged / "d").mkdir()
    (union.merged / "d").rmdir()
    # The kernel keeps one whiteout there to hard-link the next ones from; anything else would be a leftover.
    staging = union.mounted.work / "work"
    assert [path for path in staging.iterdir() if not path.is_char_device()] == []
