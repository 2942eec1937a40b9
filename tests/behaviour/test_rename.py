"""rename(2) of files: where the old name leads, what a covered name leaves, and the flags of renameat2(2)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

import pytest

from .layers import FIFO, OLD_NS, WHITEOUT, Dir, File, Link, Special, Symlink
from .syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, fails_with, renameat2
from .union import Union

layers = pytest.mark.layers


@layers({"old": File(b"data", uid=7, xattrs={"user.x": b"1"})})
def test_rename_of_lower_file_copies_up_and_leaves_whiteout(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.has_whiteout("old")
    assert (union.upper / "new").read_bytes() == b"data"
    status = (union.merged / "new").stat()
    assert (status.st_uid, status.st_mtime_ns) == (7, OLD_NS)
    assert os.getxattr(union.merged / "new", "user.x") == b"1"


@layers(upper={"old": b"data"})
def test_rename_of_pure_upper_file_leaves_nothing(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert os.listdir(union.upper) == ["new"]


@layers({"old": b"lower"}, upper={"old": b"upper"})
def test_rename_of_upper_file_over_a_lower_one_leaves_whiteout(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.has_whiteout("old")
    assert (union.merged / "new").read_bytes() == b"upper"


COVERED = {
    "lower file": layers({"old": b"O", "d/new": b"N"}),
    "upper file": layers({"old": b"O"}, upper={"d/new": b"N"}),
    "upper file over lower file": layers({"old": b"O", "d/new": b"N"}, upper={"d/new": b"U"}),
    "whiteout": layers({"old": b"O", "d/new": b"N"}, upper={"d/new": WHITEOUT}),
    "upper onto lower": layers({"d/new": b"N"}, upper={"old": b"O"}),
    "symlink": layers({"old": b"O", "d/new": Symlink("nowhere")}),
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=marks, id=what) for what, marks in COVERED.items()])
def test_rename_into_another_directory_replaces_what_is_there(union: Union, what: str) -> None:
    (union.merged / "old").rename(union.merged / "d/new")
    assert union.names() == ["d"]
    assert union.names("d") == ["new"]
    assert (union.merged / "d/new").read_bytes() == b"O", what
    assert union.has_whiteout("old") == (union.lower / "old").exists()


@layers({"link": Symlink("x"), "fifo": FIFO, "null": Special(stat.S_IFCHR, os.makedev(1, 3))})
@pytest.mark.parametrize("name", ["link", "fifo", "null"])
def test_rename_of_special_lower_object(union: Union, name: str) -> None:
    before = (union.merged / name).lstat()
    (union.merged / name).rename(union.merged / "new")
    after = (union.merged / "new").lstat()
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)
    assert union.has_whiteout(name)


@layers({"f": b"data"})
def test_rename_and_back_shows_the_file_under_its_first_name(union: Union) -> None:
    (union.merged / "f").rename(union.merged / "g")
    (union.merged / "g").rename(union.merged / "f")
    assert union.names() == ["f"]
    assert (union.merged / "f").read_bytes() == b"data"
    assert not union.has_whiteout("f")


@layers({"f": b"data"})
def test_rename_onto_itself_changes_nothing(union: Union) -> None:
    (union.merged / "f").rename(union.merged / "f")
    assert union.names() == ["f"]
    assert not union.is_copied_up("f")


@layers(upper={"a": b"data", "b": Link("a")})
def test_rename_onto_a_hard_link_of_itself_changes_nothing(union: Union) -> None:
    (union.merged / "a").rename(union.merged / "b")
    assert union.names() == ["a", "b"]


@layers(upper={"a": b"data", "b": Link("a"), "c": b"other"})
def test_rename_over_a_hard_link_takes_one_name_from_it(union: Union) -> None:
    (union.merged / "c").rename(union.merged / "a")
    assert union.names() == ["a", "b"]
    assert (union.merged / "a").read_bytes() == b"other"
    assert (union.merged / "b").read_bytes() == b"data"
    assert (union.merged / "b").stat().st_nlink == 1


@layers({"f": b"old"})
def test_open_descriptor_follows_a_renamed_file(union: Union) -> None:
    with (union.merged / "f").open("rb") as file:
        (union.merged / "f").rename(union.merged / "g")
        assert file.read() == b"old"
    with (union.merged / "g").open("r+b") as file:
        (union.merged / "g").rename(union.merged / "h")
        file.write(b"new")
    assert (union.merged / "h").read_bytes() == b"new"


@layers({"f": b"F", "g": b"G"})
def test_noreplace_is_eexist_on_an_existing_name(union: Union) -> None:
    with fails_with(errno.EEXIST):
        renameat2(union.merged / "f", union.merged / "g", RENAME_NOREPLACE)
    assert (union.merged / "g").read_bytes() == b"G"


@layers({"f": b"F", "g": b"G"}, upper={"g": WHITEOUT})
@pytest.mark.parametrize("new", ["g", "h"])
def test_noreplace_moves_to_a_free_name(union: Union, new: str) -> None:
    renameat2(union.merged / "f", union.merged / new, RENAME_NOREPLACE)
    assert union.names() == [new]
    assert (union.merged / new).read_bytes() == b"F"
    assert union.has_whiteout("f")


PAIRS = {
    "lower and lower": layers({"f": b"F", "d/g": b"G"}),
    "lower and upper": layers({"f": b"F"}, upper={"d/g": b"G"}),
    "upper and upper": layers(upper={"f": b"F", "d/g": b"G"}),
    "both over lower": layers({"f": b"1", "d/g": b"2"}, upper={"f": b"F", "d/g": b"G"}),
}


@pytest.mark.parametrize("which", [pytest.param(which, marks=marks, id=which) for which, marks in PAIRS.items()])
def test_exchange_of_files_swaps_them(union: Union, which: str) -> None:
    inos = (union.merged / "f").stat().st_ino, (union.merged / "d/g").stat().st_ino
    renameat2(union.merged / "f", union.merged / "d/g", RENAME_EXCHANGE)
    assert (union.merged / "f").read_bytes() == b"G", which
    assert (union.merged / "d/g").read_bytes() == b"F"
    assert ((union.merged / "d/g").stat().st_ino, (union.merged / "f").stat().st_ino) == inos
    assert union.names() == ["d", "f"]


@layers(upper={"f": b"F", "d/inner": b"I"})
def test_exchange_of_file_and_pure_upper_directory(union: Union) -> None:
    renameat2(union.merged / "f", union.merged / "d", RENAME_EXCHANGE)
    assert union.names("f") == ["inner"]
    assert (union.merged / "d").read_bytes() == b"F"


@layers({"f": b"F"}, upper={"d/inner": b"I"})
def test_exchange_of_lower_file_and_pure_upper_directory_shows_nothing_old(union: Union) -> None:
    renameat2(union.merged / "f", union.merged / "d", RENAME_EXCHANGE)
    assert union.names("f") == ["inner"]
    assert (union.merged / "d").read_bytes() == b"F"
    assert not union.has_whiteout("f")


@layers({"f": b"F"})
def test_exchange_with_a_missing_name_is_enoent(union: Union) -> None:
    with fails_with(errno.ENOENT):
        renameat2(union.merged / "f", union.merged / "none", RENAME_EXCHANGE)
    assert union.names() == ["f"]


@layers({"f": b"F", "g": b"G"})
@pytest.mark.parametrize("flags", [RENAME_WHITEOUT, RENAME_NOREPLACE | RENAME_EXCHANGE, 1 << 10])
def test_other_flags_are_einval(union: Union, flags: int) -> None:
    with fails_with(errno.EINVAL):
        renameat2(union.merged / "f", union.merged / "g", flags)
    assert union.names() == ["f", "g"]


@layers({"f": b"", "d/g": b"", "e": Dir()})
def test_errors_of_rename(union: Union) -> None:
    merged = union.merged
    cases: list[tuple[int, Callable[[], object]]] = [
        (errno.ENOENT, lambda: os.rename(merged / "none", merged / "x")),
        (errno.ENOENT, lambda: os.rename(merged / "f", merged / "none/x")),
        (errno.ENOTDIR, lambda: os.rename(merged / "f", merged / "f/x")),
        (errno.ENOTDIR, lambda: os.rename(merged / "e", merged / "f")),
        (errno.EISDIR, lambda: os.rename(merged / "f", merged / "e")),
        (errno.ENAMETOOLONG, lambda: os.rename(merged / "f", merged / ("x" * 256))),
        (errno.EXDEV, lambda: os.rename(merged / "f", union.upper.parent / "outside")),
    ]
    for number, change in cases:
        with fails_with(number):
            change()
    assert union.names() == ["d", "e", "f"]
    assert not union.is_copied_up("f")
