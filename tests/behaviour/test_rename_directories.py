"""rename(2) of directories: pure upper ones move, those that a lower has a part in are EXDEV (there are no redirects)."""

from __future__ import annotations

import errno
import os

import pytest

from .layers import OPAQUE, WHITEOUT, Dir
from .syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, fails_with, renameat2
from .union import Union

layers = pytest.mark.layers


@layers({"elsewhere/f": b""}, upper={"old/f": b"F", "old/sub/g": b"G"})
def test_rename_of_pure_upper_directory_moves_the_tree(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "elsewhere/new")
    assert union.names() == ["elsewhere"]
    assert union.names("elsewhere") == ["f", "new"]
    assert (union.merged / "elsewhere/new/sub/g").read_bytes() == b"G"
    assert not os.path.lexists(union.upper / "old")


MERGED = {
    "lower": layers({"old/f": b"F"}),
    "merged with upper": layers({"old/f": b"F"}, upper={"old/g": b"G"}),
    "two lowers": layers([{"old/f": b"F"}, {"old/g": b"G"}]),
    "empty lower": layers({"old": Dir()}),
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=marks, id=what) for what, marks in MERGED.items()])
@pytest.mark.parametrize("flags", [0, RENAME_NOREPLACE])
def test_rename_of_directory_with_a_lower_part_is_exdev(union: Union, what: str, flags: int) -> None:
    before = union.names("old")
    with fails_with(errno.EXDEV):
        renameat2(union.merged / "old", union.merged / "new", flags)
    assert union.names() == ["old"]
    assert union.names("old") == before, what


@layers({"old/f": b"F"}, upper={"old": OPAQUE, "old/g": b"G"})
def test_rename_of_opaque_upper_directory_moves_it_and_leaves_whiteout(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.names("new") == ["g"]
    assert union.has_whiteout("old")


@layers({"new/f": b"F"}, upper={"old/g": b"G", "new": WHITEOUT})
def test_directory_renamed_onto_a_whiteout_is_opaque(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.names("new") == ["g"]
    assert union.is_opaque("new")


@layers([{"d/x/f": b""}, {"d/y": b""}], upper={"old/g": b"G"})
def test_pure_upper_directory_renamed_into_a_merged_one(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "d/new")
    assert union.names("d") == ["new", "x", "y"]
    assert union.names("d/new") == ["g"]
    union.merged.joinpath("d/new/later").mkdir()
    assert union.names("d/new") == ["g", "later"]


@layers(upper={"old/g": b"G", "new": Dir()})
def test_directory_replaces_an_empty_pure_upper_directory(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.names("new") == ["g"]


@layers({"new": Dir()}, upper={"old/g": b"G"})
def test_directory_replaces_an_empty_lower_directory(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.names("new") == ["g"]
    assert union.is_opaque("new")


@layers({"new/f": b"", "new/g": b""}, upper={"old/h": b"H", "new/f": WHITEOUT, "new/g": WHITEOUT})
def test_directory_replaces_one_that_holds_only_whiteouts(union: Union) -> None:
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.names("new") == ["h"]


@layers({"new/f": b"", "new/g": b""}, upper={"old/h": b"H"})
def test_directory_replaces_one_whose_names_were_removed(union: Union) -> None:
    (union.merged / "new/f").unlink()
    (union.merged / "new/g").unlink()
    (union.merged / "old").rename(union.merged / "new")
    assert union.names() == ["new"]
    assert union.names("new") == ["h"]


NOT_EMPTY = {
    "lower": layers({"new/f": b""}, upper={"old": Dir()}),
    "upper": layers(upper={"old": Dir(), "new/f": b""}),
    "merged": layers([{"new": Dir()}, {"new/f": b""}], upper={"old": Dir(), "new": Dir()}),
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=marks, id=what) for what, marks in NOT_EMPTY.items()])
def test_directory_over_a_non_empty_one_is_enotempty(union: Union, what: str) -> None:
    with fails_with(errno.ENOTEMPTY):
        (union.merged / "old").rename(union.merged / "new")
    assert union.names("new") == ["f"], what
    assert union.names("old") == []


@layers({"low/sub": Dir()}, upper={"up/sub": Dir()})
def test_directory_into_itself_is_einval(union: Union) -> None:
    for name in ("low", "up"):
        with fails_with(errno.EINVAL):
            (union.merged / name).rename(union.merged / name / "sub/deeper")
    assert union.names() == ["low", "up"]


@layers(upper={"a/b/c": b""})
def test_directory_over_its_own_ancestor_is_enotempty(union: Union) -> None:
    with fails_with(errno.ENOTEMPTY):
        (union.merged / "a/b").rename(union.merged / "a")


@layers(upper={"a/f": b"A", "b/g": b"B"})
def test_exchange_of_pure_upper_directories(union: Union) -> None:
    renameat2(union.merged / "a", union.merged / "b", RENAME_EXCHANGE)
    assert union.names("a") == ["g"]
    assert union.names("b") == ["f"]


@layers({"a/low": b""}, upper={"b/g": b"B"})
def test_exchange_with_a_lower_directory_is_exdev(union: Union) -> None:
    with fails_with(errno.EXDEV):
        renameat2(union.merged / "a", union.merged / "b", RENAME_EXCHANGE)
    with fails_with(errno.EXDEV):
        renameat2(union.merged / "b", union.merged / "a", RENAME_EXCHANGE)
    assert union.names("a") == ["low"]


@layers({"d/f": b"F"})
def test_directory_made_through_the_mount_moves_with_what_was_moved_into_it(union: Union) -> None:
    (union.merged / "new").mkdir()
    (union.merged / "d/f").rename(union.merged / "new/f")
    (union.merged / "new").rename(union.merged / "newer")
    assert (union.merged / "newer/f").read_bytes() == b"F"
    assert union.names() == ["d", "newer"]
    assert union.names("d") == []


@layers({"d/f": b"F"})
def test_paths_inside_a_moved_directory_stay_usable(union: Union) -> None:
    (union.merged / "new/sub").mkdir(parents=True)
    directory = os.open(union.merged / "new/sub", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (union.merged / "new").rename(union.merged / "d/newer")
        with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory), "wb") as file:
            file.write(b"x")
        parent = os.stat("..", dir_fd=directory)
    finally:
        os.close(directory)
    assert (union.merged / "d/newer/sub/file").read_bytes() == b"x"
    assert (parent.st_dev, parent.st_ino) == ((union.merged / "d/newer").stat().st_dev, (union.merged / "d/newer").stat().st_ino)
