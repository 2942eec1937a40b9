"""Files with several names in a lower layer, with ``index=on``: the names stay names of one file."""

from __future__ import annotations

import os
import stat

import pytest

from tests.mounts import KERNEL, OURS
from unionfs.check import Directories, check

from .layers import FIFO, WHITEOUT, Link, Symlink, Tree
from .syscalls import RENAME_EXCHANGE, renameat2
from .tree import Snapshot, differences
from .union import Union

pytestmark = pytest.mark.mount_options("index=on", "redirect_dir=on")
layers = pytest.mark.layers

LOWER: Tree = {
    "a": b"lower",
    "d/b": Link("a"),
    "d/e/c": Link("a"),
    "one": b"first",
    "two": Link("one"),
    "link": Symlink("a"),
    "d/link": Link("link"),
    "fifo": FIFO,
    "fifo2": Link("fifo"),
    "x": b"x",
    "y": Link("x"),
    "z": Link("x"),
    "single": b"single",
}
NAMES = ("a", "d/b", "d/e/c")


def identities(union: Union, *names: str) -> set[tuple[int, int]]:
    """Number and link count under all the names."""
    found = [(union.merged / name).lstat() for name in names]
    return {(st.st_ino, st.st_nlink) for st in found}


@layers(LOWER)
def test_change_by_one_name_shows_in_all_and_after_remount(own_union: Union) -> None:
    merged = own_union.merged
    before = identities(own_union, *NAMES)
    assert len(before) == 1
    (merged / "d/b").write_bytes(b"UPPER")
    os.chmod(merged / "a", 0o600)
    for _ in range(2):
        assert [(merged / name).read_bytes() for name in NAMES] == [b"UPPER"] * 3
        assert {stat.S_IMODE((merged / name).stat().st_mode) for name in NAMES} == {0o600}
        assert identities(own_union, *NAMES) == before
        assert own_union.is_copied_up("d/b") is own_union.deviates("indexed-name", kernel=True, ours=False)
        own_union.remount()


@layers([{"x": WHITEOUT}, LOWER])
def test_link_counts_follow_every_change_of_names(own_union: Union) -> None:
    merged = own_union.merged
    (merged / "a").unlink()
    os.link(merged / "one", merged / "three")
    (merged / "single").rename(merged / "fifo")
    (merged / "y").rename(merged / "d/y")
    os.link(merged / "d/link", merged / "d/link2", follow_symlinks=False)
    renameat2(merged / "link", merged / "d/e/c", RENAME_EXCHANGE)
    expected = {"d/b": 2, "link": 2, "one": 3, "two": 3, "three": 3, "fifo2": 1, "fifo": 1}
    expected |= {"d/y": 3, "z": 3, "d/link": 3, "d/e/c": 3, "d/link2": 3}
    for _ in range(2):
        assert {name: (merged / name).lstat().st_nlink for name in expected} == expected
        assert len(identities(own_union, "d/b", "link")) == 1
        assert len(identities(own_union, "d/y", "z")) == 1
        own_union.remount()


@layers(LOWER)
def test_last_name_takes_the_file_with_it(own_union: Union) -> None:
    with (own_union.merged / "two").open("rb") as file:
        (own_union.merged / "one").unlink()
        assert os.fstat(file.fileno()).st_nlink == 1
        (own_union.merged / "two").unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"first"
    own_union.remount()
    assert not {"one", "two"} & set(own_union.names())


def change(union: Union) -> None:
    """Something of every kind with names of lower files; may be done again on top."""
    merged = union.merged
    (merged / "d/e/c").write_bytes(b"UPPER")
    (merged / "a").unlink()
    (merged / "d").rename(merged / "moved")
    os.chmod(merged / "one", 0o640)
    os.link(merged / "two", merged / "moved/two")
    (merged / "fifo2").unlink()
    (merged / "z").rename(merged / "moved/z")
    (merged / "single").rename(merged / "y")
    os.chown(merged / "link", 7, 7, follow_symlinks=False)
    (merged / "moved/e").rename(merged / "e")


@layers(LOWER)
def test_swapped_uppers_show_the_same_files_and_links(own_union: Union) -> None:
    change(own_union)
    before = Snapshot.of(own_union.merged)
    own_union.remount(OURS[0] if own_union.backend is KERNEL else KERNEL)
    assert differences(before, Snapshot.of(own_union.merged)) == []
    assert identities(own_union, "moved/b", "e/c") == {((own_union.merged / "e/c").stat().st_ino, 2)}
    (own_union.merged / "moved/b").write_bytes(b"by the other")
    (own_union.merged / "one").unlink()
    before = Snapshot.of(own_union.merged)
    own_union.remount()
    assert differences(before, Snapshot.of(own_union.merged)) == []
    assert (own_union.merged / "e/c").read_bytes() == b"by the other"
    mounted = own_union.mounted
    mounted.umount()
    assert list(check(Directories(mounted.upper, mounted.work, tuple(mounted.lowers)))) == []
    mounted.mount()
