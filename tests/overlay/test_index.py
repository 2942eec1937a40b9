"""Files with several names in a lower layer, with ``index=on``."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, Client, build, stack
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options, Stack, Union

INDEX = Options(index="on")
NAMES = ("a", "b", "d/c")


@pytest.fixture
def layers(tmp_path: Path) -> Stack:
    """A lower with a file of the names `NAMES`, and another file."""
    made = stack(tmp_path, {"a": b"lower", "d/other": b"other"})
    for name in NAMES[1:]:
        os.link(tmp_path / "lower0/a", tmp_path / "lower0" / name)
    return made


class Mounts:
    """Opens unions of one stack, one after the other."""

    def __init__(self, layers: Stack) -> None:
        self.layers = layers
        self.client: Client | None = None

    def mount(self, options: Options = INDEX) -> Client:
        self.umount()
        self.client = Client(Union(self.layers, options))
        return self.client

    def umount(self) -> None:
        if self.client is not None:
            self.client.union.close()
            self.client = None

    def entries(self) -> list[str]:
        assert self.layers.work is not None
        return os.listdir(self.layers.work / "index")


@pytest.fixture
def mounts(layers: Stack) -> Iterator[Mounts]:
    with ExitStack() as opened:
        mounts = Mounts(layers)
        opened.callback(mounts.umount)
        yield mounts


def identities(client: Client, *names: str) -> set[tuple[int, int]]:
    """Number and link count of the files."""
    return {(client.attr(name).ino, client.attr(name).nlink) for name in names or NAMES}


def test_names_of_one_lower_file_are_one_inode_before_and_after_copy_up(mounts: Mounts) -> None:
    client = mounts.mount()
    assert len({client.node(name) for name in NAMES}) == 1
    before = identities(client)
    assert before == {((mounts.layers.lowers[0] / "a").stat().st_ino, 3)}
    client.write("b", b"UPPER")
    assert identities(client) == before
    assert [client.read(name) for name in NAMES] == [b"UPPER"] * 3
    assert identities(mounts.mount(), *reversed(NAMES)) == before
    assert [client.read(name) for client in (mounts.mount(),) for name in NAMES] == [b"UPPER"] * 3


def test_name_that_is_looked_up_first_after_remount_makes_no_difference(mounts: Mounts) -> None:
    mounts.mount().write("b", b"UPPER")
    for first in NAMES:
        client = mounts.mount()
        assert client.read(first) == b"UPPER"
        assert len({client.node(name) for name in (first, *NAMES)}) == 1


def test_removed_names_are_counted_over_remounts(mounts: Mounts) -> None:
    client = mounts.mount()
    client.unlink("a")
    assert {client.attr(name).nlink for name in NAMES[1:]} == {2}
    assert {mounts.mount().attr(name).nlink for name in NAMES[1:]} == {2}
    client = mounts.mount()
    client.unlink("b")
    assert client.attr("d/c").nlink == 1
    assert len(mounts.entries()) == 1
    client.unlink("d/c")
    assert mounts.entries() == []
    assert client.names("") == [b"d"]
    assert mounts.mount().names("d") == [b"other"]


def test_new_names_are_counted_over_remounts(mounts: Mounts) -> None:
    client = mounts.mount()
    client.call(client.union.link, client.node("b"), *client.place("new"))
    assert {client.attr(name).nlink for name in (*NAMES, "new")} == {4}
    client = mounts.mount()
    assert len(identities(client, *NAMES, "new")) == 1
    assert client.attr("new").nlink == 4


def test_renamed_names_stay_names_of_the_file(mounts: Mounts) -> None:
    client = mounts.mount()
    client.rename("b", "moved")
    client.rename("d/other", "a", RENAME_EXCHANGE)
    assert len(identities(client, "moved", "d/other", "d/c")) == 1
    client.write("d/c", b"UPPER")
    client = mounts.mount()
    assert [client.read(name) for name in ("moved", "d/other", "d/c", "a")] == [b"UPPER"] * 3 + [b"other"]
    assert identities(client, "moved", "d/other", "d/c") == {((mounts.layers.lowers[0] / "a").stat().st_ino, 3)}


def test_rename_over_a_name_takes_it_from_the_count(mounts: Mounts) -> None:
    client = mounts.mount()
    client.rename("d/other", "b")
    assert client.attr("a").nlink == 2
    client.rename("a", "d/c")  # two names of one file: nothing happens
    assert identities(client, "a", "d/c") == {(client.attr("a").ino, 2)}
    assert mounts.mount().attr("d/c").nlink == 2


def test_open_file_whose_last_name_goes_stays_readable_and_shows_no_links(mounts: Mounts) -> None:
    client = mounts.mount()
    node = client.node("a")
    for name in NAMES:
        client.unlink(name)
    assert client.union.getattr(node).nlink == 0
    assert client.call(client.union.read, node, 0, 100) == b"lower"
    assert client.call(client.union.write, node, 0, b"UPPER") == 5
    assert client.call(client.union.read, node, 0, 100) == b"UPPER"


def test_copy_up_of_a_pinned_file_moves_all_its_names_to_one_new_node(mounts: Mounts) -> None:
    client = mounts.mount()
    old = client.node("a")
    client.node("b")
    client.union.pin(old)
    with pytest.raises(OSError, match="tale"):
        client.call(client.union.open, old, os.O_RDWR, ROOT)
    assert len({client.node(name) for name in NAMES}) == 1
    assert client.node("d/c") != old


def test_listing_tells_the_number_of_the_file_under_all_names(mounts: Mounts) -> None:
    client = mounts.mount()
    client.chmod("b", 0o600)
    client = mounts.mount()
    rows = [row for path in ("", "d") for row in client.union.readdir(client.node(path), 0) if row.name in (b"a", b"b", b"c")]
    assert {row.ino for row in rows} == {(mounts.layers.lowers[0] / "a").stat().st_ino}
    assert len(rows) == 3


def test_metadata_only_copies_share_their_data_under_all_names(mounts: Mounts) -> None:
    options = Options(index="on", metacopy=True)
    client = mounts.mount(options)
    client.chmod("b", 0o600)
    assert client.union.statistics()["copied_up_bytes"] == 0
    client.rename("d/c", "moved")
    for name in ("moved", "a", "b"):
        client = mounts.mount(options)
        assert client.read(name) == b"lower"
        assert client.attr("a").mode & 0o777 == 0o600
    client.write("a", b"UPPER")
    assert [mounts.mount(options).read(name) for name in ("a", "b", "moved")] == [b"UPPER"] * 3


def test_symbolic_links_with_several_names_are_indexed_too(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "lower0/link").symlink_to("a")
    os.link(tmp_path / "lower0/link", tmp_path / "lower0/link2", follow_symlinks=False)
    client = mounts.mount()
    client.rename("link", "moved")
    assert client.node("moved") == client.node("link2")
    client = mounts.mount()
    assert len(identities(client, "moved", "link2")) == 1
    assert client.union.readlink(client.node("link2")) == b"a"


def test_with_userxattr_only_regular_files_are_indexed(mounts: Mounts, tmp_path: Path) -> None:
    (tmp_path / "lower0/link").symlink_to("a")
    os.link(tmp_path / "lower0/link", tmp_path / "lower0/link2", follow_symlinks=False)
    options = Options(index="on", userxattr=True)
    client = mounts.mount(options)
    client.rename("link", "moved")
    client.chmod("a", 0o600)
    client = mounts.mount(options)
    assert client.attr("b").mode & 0o777 == 0o600
    assert len(identities(client)) == 1
    assert client.attr("moved").ino != client.attr("link2").ino


def test_names_in_a_read_only_union_are_one_inode(layers: Stack) -> None:
    client = Client(Union(Stack(layers.lowers)))
    assert len({client.node(name) for name in NAMES}) == 1
    client.union.close()


def test_without_index_a_copied_up_name_is_a_file_of_its_own(mounts: Mounts) -> None:
    client = mounts.mount(Options())
    client.write("a", b"UPPER")
    assert [client.read(name) for name in NAMES] == [b"UPPER", b"lower", b"lower"]
    assert client.attr("a").nlink == 1


def test_explain_leads_from_a_lower_name_to_the_entry_of_the_index(mounts: Mounts, tmp_path: Path) -> None:
    client = mounts.mount()
    client.chmod("a", 0o600)
    told = client.union.explain(b"b")
    (entry,) = mounts.entries()
    assert (told["layer"], told["real_path"], told["copied_up"]) == ("index", str(tmp_path / "work/index" / entry), True)
    assert [hidden["real_path"] for hidden in told["hides"]] == [str(tmp_path / "lower0/b")]
    assert client.union.explain(b"a")["layer"] == "upper"


def states(directory: Path) -> dict[Path, tuple[int, ...]]:
    """What tells whether anything below was changed, which reading (atime) does not."""
    found = {path: path.lstat() for path in directory.rglob("*")}
    return {path: (st.st_ino, st.st_mode, st.st_nlink, st.st_size, st.st_mtime_ns, st.st_ctime_ns) for path, st in found.items()}


def test_read_only_union_finds_copied_up_files_by_the_index_and_changes_nothing(mounts: Mounts, tmp_path: Path) -> None:
    client = mounts.mount()
    client.write("b", b"UPPER")
    client.unlink("d/c")
    before = identities(client, "a", "b")
    mounts.umount()
    index = tmp_path / "work/index"
    (index / "#1").write_bytes(b"")
    told = states(tmp_path)
    mounts.layers = replace(mounts.layers, read_only=True)
    client = mounts.mount()
    assert not client.union.writable
    assert identities(client, "a", "b") == before
    assert [client.read(name) for name in "ab"] == [b"UPPER"] * 2
    assert client.names("d") == [b"other"]
    for change in (lambda: client.chmod("a", 0o600), lambda: client.unlink("b"), lambda: client.write("d/other", b"")):
        with pytest.raises(OSError, match="Read-only"):
            change()
    mounts.umount()
    assert states(tmp_path) == told


# -- what is refused ----------------------------------------------------------------------------------------------------------


def test_index_over_another_lower_is_refused_and_left_alone_by_auto(mounts: Mounts, tmp_path: Path) -> None:
    mounts.mount().chmod("a", 0o600)
    mounts.umount()
    mounts.layers = Stack((build(tmp_path / "elsewhere", {"a": b""}),), mounts.layers.upper, mounts.layers.work)
    with pytest.raises(OSError, match="another lower") as refused:
        mounts.mount()
    assert refused.value.errno == errno.ESTALE
    assert refused.value.filename == str(tmp_path / "upper")
    client = mounts.mount(Options(index="auto"))
    assert client.attr("a").mode & 0o777 == 0o600
    assert len(mounts.entries()) == 1


def test_index_of_another_upper_is_refused(mounts: Mounts, tmp_path: Path) -> None:
    mounts.mount()
    mounts.umount()
    mounts.layers = Stack(mounts.layers.lowers, build(tmp_path / "upper2", {}), mounts.layers.work)
    with pytest.raises(OSError, match="of another upper") as refused:
        mounts.mount()
    assert refused.value.filename == str(tmp_path / "work")


def test_index_entry_that_is_another_file_is_refused(mounts: Mounts, tmp_path: Path) -> None:
    mounts.mount().chmod("a", 0o600)
    mounts.umount()
    shutil.copy2(tmp_path / "upper/a", tmp_path / "copy")  # with its xattrs
    os.link(tmp_path / "copy", tmp_path / "another")
    os.replace(tmp_path / "copy", tmp_path / "upper/a")
    with pytest.raises(OSError, match="another file") as refused:
        mounts.mount().node("a")
    assert refused.value.errno == errno.EIO


def test_what_a_crash_left_in_the_index_is_removed_at_the_next_mount(mounts: Mounts, tmp_path: Path) -> None:
    mounts.mount().chmod("a", 0o600)
    (entry,) = mounts.entries()
    mounts.umount()
    index = tmp_path / "work/index"
    (index / "#1").write_bytes(b"")
    (index / "#2/below").mkdir(parents=True)
    (index / ("00fb1d0001" + 48 * "0")).write_bytes(b"no name is counted")
    mounts.mount()
    assert mounts.entries() == [entry]


def test_entry_of_a_file_without_a_name_is_removed_at_the_next_mount(mounts: Mounts, tmp_path: Path) -> None:
    mounts.mount().chmod("a", 0o600)
    (entry,) = mounts.entries()
    mounts.umount()
    for value in (b"U-3", b"L-3"):
        os.setxattr(tmp_path / "work/index" / entry, "trusted.overlay.nlink", value)
        os.link(tmp_path / "work/index" / entry, tmp_path / "kept")
        mounts.mount()
        assert mounts.entries() == []
        mounts.umount()
        os.rename(tmp_path / "kept", tmp_path / "work/index" / entry)
