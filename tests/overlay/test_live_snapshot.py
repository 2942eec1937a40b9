"""A snapshot under a union in use: nothing that is seen changes, and a fresh mount of what is then on disk shows the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mounts import KERNEL
from tests.overlay.client import ROOT, Client, build
from tests.overlay.kernel_cache import KernelCache
from unionfs.check import Directories, check
from unionfs.filesystem import ROOT_ID, Blocking
from unionfs.linux.rename import RENAME_EXCHANGE
from unionfs.overlay import Options, Stack, Union
from unionfs.overlay.ino_map import CopiedUpInos
from unionfs.overlay.live_snapshot import Taken
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshots

NAMES = (b"a", b"b", b"c", b"d")


class Memory(KernelCache):
    """With contents that stay: what a read returns is good until the next call only."""

    def _read(self, node: int, kind: int) -> Any:
        contents = super()._read(node, kind)
        return bytes(contents) if isinstance(contents, memoryview) else contents


class Live:
    """A union with what its kernel remembers, of which snapshots are taken."""

    def __init__(self, top: Path, lowers: list[Path], options: Options) -> None:
        self.top, self.lowers, self.options = top, lowers, options
        self.upper, self.work = build(top / "upper", {}), build(top / "work", {})
        self.snapshots = Snapshots(self.upper, PrivateXattrs(options.userxattr))
        self.open()

    def open(self) -> None:
        """A fresh mount of what is on disk."""
        self.snapshots.recover(self.work)
        chain = self.snapshots.chain()
        stack = Stack((*chain, *self.lowers), self.upper, self.work, snapshots=len(chain))
        self.client = Client(Union(stack, self.options))
        self.kernel = Memory(self.client)

    @property
    def union(self) -> Union:
        return self.client.union

    def take(self, name: str | None = None) -> Taken:
        taken = self.union.prepare_snapshot(name).take()
        self.kernel.tell(taken.notices)
        return taken

    def seen(self) -> dict[bytes, Any]:
        """All that is visible, but how many links a directory has: that tells whether it was copied up."""
        return {
            path: record if isinstance(record, int) or record[0][0] >> 12 != 4 else ((*record[0][:3], 0), *record[1:])
            for path, record in self.kernel.tree(NAMES).items()
        }

    def inos(self) -> dict[bytes, int]:
        """Inode numbers, as listings and lookups give them, by path."""
        found: dict[bytes, int] = {}
        waiting = [(b"", ROOT_ID)]
        while waiting:
            path, node = waiting.pop()
            listed = {row.name: row.ino for row in self.client.call(self.union.readdir, node, 0)}
            for name in sorted(listed.keys() - {b".", b".."}):
                child = self.kernel.lookup(node, name)
                assert child is not None
                attr = self.kernel.attr(child)
                assert listed[name] == attr.ino, path + b"/" + name
                found[path + b"/" + name] = attr.ino
                if attr.mode >> 12 == 4:
                    waiting.append((path + b"/" + name, child))
        return found

    def assert_like_fresh_mount(self) -> None:
        """Closes the union, and opens another one.  Whatever the test itself changed meanwhile the kernel knows."""
        self.kernel = Memory(self.client)
        seen, inos = self.seen(), self.inos()
        self.union.close()
        self.open()
        assert self.seen() == seen
        assert self.inos() == inos


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    return build(
        tmp_path / "lower",
        {"f": b"lower", "gone": b"gone", "d/x": b"x", "d/sub/s": b"s", "moves/m": b"m", "opaque/o": b"o", "only/here": b"h"},
    )


@pytest.fixture(params=["off", "on"], ids=["index=off", "index=on"])
def live(request: pytest.FixtureRequest, tmp_path: Path, lower: Path) -> Iterator[Live]:
    union = Live(tmp_path, [lower], Options(index=request.param, fsync="volatile"))
    yield union
    union.union.close()


def change(client: Client) -> None:
    """Something of each kind that an upper can hold."""
    client.write("f", b"upper")
    client.write("new", b"new")
    client.unlink("gone")
    client.mkdir("made")
    client.write("made/n", b"n")
    client.rename("moves", "moved")
    client.unlink("opaque/o")
    client.rmdir("opaque")
    client.mkdir("opaque")
    client.chmod("d/x", 0o600)
    client.call(client.union.symlink, *client.place("d/link"), b"x", ROOT)


def test_nothing_that_is_seen_changes(live: Live) -> None:
    change(live.client)
    seen, inos = live.seen(), live.inos()
    live.take()
    assert os.listdir(live.upper) == []
    assert live.inos() == inos
    assert live.seen() == seen
    live.kernel.let_go()
    assert live.inos() == inos
    assert live.seen() == seen
    live.assert_like_fresh_mount()
    assert live.inos() == inos


def test_what_is_changed_after_a_snapshot_leaves_it_as_it_was(live: Live) -> None:
    change(live.client)
    first = live.take("first").snapshot
    assert (first.layer / "f").read_bytes() == b"upper"
    before, inos = live.kernel.tree(NAMES), live.inos()
    live.client.write("f", b"later")
    live.client.unlink("new")
    live.client.chmod("made/n", 0o600)
    live.client.rename("moved", "again")
    live.client.rename("made", "remade")
    assert (first.layer / "f").read_bytes() == b"upper"
    assert (first.layer / "made/n").stat().st_mode & 0o777 == 0o644
    live.kernel = Memory(live.client)
    now = live.inos()
    assert now[b"/f"] == inos[b"/f"]
    assert now[b"/remade/n"] == inos[b"/made/n"]
    assert now[b"/again"] == inos[b"/moved"]
    live.assert_like_fresh_mount()
    live.take("second")
    live.client.write("f", b"latest")
    live.client.chmod("remade/n", 0o640)
    live.kernel = Memory(live.client)
    assert live.inos() == now
    live.kernel.let_go()
    assert live.inos() == now
    live.assert_like_fresh_mount()
    live.union.close()
    chain = live.snapshots.layers((first.number, *first.below))
    union = Union(Stack((*chain, *live.lowers), snapshots=len(chain)), live.options)
    assert Memory(Client(union)).tree(NAMES) == before
    union.close()
    live.open()


def test_whiteout_of_a_frozen_name_hides_it(live: Live) -> None:
    live.client.write("new", b"new")
    live.take()
    live.client.unlink("new")
    assert (live.upper / "new").stat().st_rdev == 0
    live.assert_like_fresh_mount()
    assert b"new" not in live.client.names("")


def test_pinned_written_file_goes_on_in_the_new_upper(live: Live) -> None:
    client, union = live.client, live.union
    client.mkdir("made")
    client.write("made/w", b"before")
    node = client.node("made/w")
    live.seen()
    union.pin(node)
    ino = (live.upper / "made/w").stat().st_ino
    with (live.upper / "made/w").open("r+b") as kernel:  # as passthrough has it open
        opened = client.call(union.open, node, os.O_RDWR, ROOT)
        snapshot = live.take().snapshot
        kernel.write(b"after!")
        kernel.flush()
    assert (live.upper / "made/w").stat().st_ino == ino
    assert (snapshot.layer / "made/w").read_bytes() == b"before"
    assert bytes(client.read("made/w")) == b"after!"
    assert client.call(union.open, node, os.O_RDWR, ROOT).generation == opened.generation
    union.unpin(node)
    live.kernel = Memory(client)  # the kernel wrote the file itself
    live.assert_like_fresh_mount()


class Reused(CopiedUpInos):
    """Each real number was that of a copied-up file that is gone, until it is taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_back: set[int] = set()

    def pop(self, real: int, default: Any = None) -> Any:
        self.taken_back.add(real)
        return super().pop(real, default)


@pytest.mark.parametrize("path", ["f", "d", "d/x"])
def test_copy_whose_real_number_belonged_to_a_gone_one_does_not_show_the_number_of_that(live: Live, path: str) -> None:
    numbers = live.union._tree.copied_up_inos = Reused()
    live.client.chmod(path, 0o700)
    copy = live.upper / path
    assert "trusted.overlay.origin" in os.listxattr(copy)
    assert copy.stat().st_ino in numbers.taken_back


def test_directories_above_a_file_that_goes_on_are_marked_as_those_of_any_upper(live: Live) -> None:
    client, union = live.client, live.union
    client.write("d/sub/w", b"written")
    union.pin(client.node("d/sub/w"))
    live.take()
    assert (live.upper / "d/sub/w").exists()
    checked = check(Directories(live.upper, live.work, (*live.snapshots.chain(), *live.lowers)))
    assert [outcome.finding for outcome in checked] == []


def test_unnamed_file_that_gets_a_name_after_the_snapshot_is_still_the_file_that_the_kernel_has_open(live: Live) -> None:
    client, union = live.client, live.union
    entry, opened = client.call(union.tmpfile, ROOT_ID, 0o600, ROOT)
    union.pin(entry.node)
    live.take()
    client.call(union.link, entry.node, ROOT_ID, b"named")
    assert client.call(union.open, entry.node, os.O_RDWR, ROOT).generation == opened.generation
    live.take()
    assert client.call(union.open, entry.node, os.O_RDWR, ROOT).generation == opened.generation
    client.write("named", b"written")
    assert (live.upper / "named").read_bytes() == b"written"


def test_pinned_file_that_was_only_read_stays_in_the_snapshot(live: Live) -> None:
    client, union = live.client, live.union
    client.write("r", b"before")
    node = client.node("r")
    union.pin(node)
    union._nodes.written.clear()
    opened = client.call(union.open, node, os.O_RDONLY, ROOT)
    snapshot = live.take().snapshot
    assert os.listdir(live.upper) == []
    assert client.call(union.open, node, os.O_RDONLY, ROOT).generation == opened.generation
    with pytest.raises(OSError, match="Stale"):
        client.call(union.open, node, os.O_RDWR, ROOT)
    again = live.kernel.lookup(ROOT_ID, b"r")
    assert again is not None
    assert again != node
    client.call(union.write, again, 0, b"after!")
    assert (snapshot.layer / "r").read_bytes() == b"before"
    union.unpin(node)


def test_all_names_of_a_carried_file_go_on(live: Live) -> None:
    client, union = live.client, live.union
    client.write("a", b"data")
    node = client.node("a")
    client.call(union.link, node, ROOT_ID, b"b")
    client.mkdir("d2")
    os.link(live.upper / "a", live.upper / "d2/unknown")
    union.pin(node)
    live.take()
    assert {path.stat().st_ino for path in (live.upper / "a", live.upper / "b", live.upper / "d2/unknown")} == {
        (live.upper / "a").stat().st_ino
    }
    chain = live.snapshots.chain()
    assert (chain[0] / "a").stat().st_ino == (chain[0] / "d2/unknown").stat().st_ino != (live.upper / "a").stat().st_ino
    assert (chain[0] / "a").stat().st_nlink == (live.upper / "a").stat().st_nlink == 3
    union.unpin(node)


def test_open_unlinked_file_goes_on(live: Live) -> None:
    client, union = live.client, live.union
    client.write("u", b"data")
    node = client.node("u")
    client.unlink("u")
    live.take()
    client.call(union.write, node, 0, b"DATA")
    assert bytes(client.call(union.read, node, 0, 10)) == b"DATA"
    live.assert_like_fresh_mount()


def test_names_of_an_indexed_file_stay_names_of_one_file(tmp_path: Path) -> None:
    lower = build(tmp_path / "lower", {"a": b"lower", "d/x": b"", "e/y": b""})
    for name in ("d/b", "e/c"):
        os.link(lower / "a", lower / name)
    live = Live(tmp_path, [lower], Options(index="on", fsync="volatile"))
    live.client.write("a", b"upper")
    live.kernel.let_go()
    live.take()
    assert [bytes(live.client.read(name)) for name in ("a", "d/b", "e/c")] == [b"upper"] * 3
    assert live.client.attr("e/c").nlink == 3
    live.assert_like_fresh_mount()
    live.client.write("d/b", b"third")
    assert [bytes(live.client.read(name)) for name in ("a", "d/b", "e/c")] == [b"third"] * 3
    live.assert_like_fresh_mount()
    live.union.close()


def test_indexed_file_in_a_directory_renamed_into_a_new_one_is_in_the_snapshot(tmp_path: Path) -> None:
    lower = build(tmp_path / "lower", {"d/one": b"lower"})
    os.link(lower / "d/one", lower / "d/other")
    live = Live(tmp_path, [lower], Options(index="on", fsync="volatile"))
    live.client.write("d/one", b"upper")
    live.client.unlink("d/one")
    live.client.mkdir("new")
    live.client.rename("d", "new/d")
    live.take()
    assert live.client.read("new/d/other") == b"upper"
    live.assert_like_fresh_mount()
    live.union.close()


def two_names(tmp_path: Path) -> Path:
    """A lower layer with a file that has the names ``a`` and ``d/other``."""
    lower = build(tmp_path / "lower", {"a": b"lower", "d/x": b""})
    os.link(lower / "a", lower / "d/other")
    return lower


def test_file_that_has_lost_the_only_name_that_anybody_knows_shows_how_many_it_has(tmp_path: Path) -> None:
    live = Live(tmp_path, [two_names(tmp_path)], Options(index="on", fsync="volatile"))
    live.client.write("a", b"upper")
    node = live.client.node("a")
    live.client.unlink("a")
    assert live.union.getattr(node).nlink == 1
    assert live.client.attr("d/other").nlink == 1
    assert live.client.node("d/other") == node
    live.union.close()


def test_indexed_file_that_is_open_and_whose_other_names_nobody_knows_goes_on(tmp_path: Path) -> None:
    live = Live(tmp_path, [two_names(tmp_path)], Options(index="on", fsync="volatile"))
    live.client.write("a", b"upper")
    live.client.unlink("d/other")
    live.client.call(live.union.link, live.client.node("a"), *live.client.place("d/new"))
    live.kernel.let_go()
    node = live.client.node("a")
    live.client.unlink("a")
    live.take()
    assert live.client.read("d/new") == b"upper"
    assert live.client.node("d/new") == node
    live.assert_like_fresh_mount()
    live.union.close()


def test_read_only_union_has_no_snapshots(lower: Path) -> None:
    union = Union(Stack((lower,)))
    with pytest.raises(OSError, match="read-only"):
        union.prepare_snapshot(None)
    with pytest.raises(OSError, match="read-only"):
        union.prepare_rollback("one", keeps=True)
    union.close()


def test_name_is_given_once(live: Live) -> None:
    live.take("one")
    for name in ("one", "7", ""):
        with pytest.raises(OSError):  # noqa: PT011
            live.union.prepare_snapshot(name)
    assert [snapshot.about.name for snapshot in live.snapshots.all()] == ["one"]
    assert live.snapshots.find("1").about.name == "one"


def step(client: Client, choose: random.Random) -> None:
    """One random change; what is impossible is left out."""
    path = "/".join(choose.choice("abcd") for _ in range(choose.randint(1, 3)))
    other = "/".join(choose.choice("abcd") for _ in range(choose.randint(1, 3)))
    if f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/"):
        other = "d"  # the kernel itself refuses to move a directory into itself
        path = "a" if path.startswith("d") else path
    operations = (
        lambda: client.write(path, bytes([choose.randrange(256)])),
        lambda: client.mkdir(path),
        lambda: client.unlink(path),
        lambda: client.rmdir(path),
        lambda: client.rename(path, other),
        lambda: client.rename(path, other, RENAME_EXCHANGE),
        lambda: client.chmod(path, choose.choice((0o600, 0o755))),
        lambda: client.call(client.union.link, client.node(path), *client.place(other)),
        lambda: client.names(path),
    )
    try:
        choose.choice(operations)()
    except (OSError, Blocking):
        return


random_options = pytest.mark.parametrize(
    "options",
    [
        Options(index="off", fsync="volatile"),
        Options(index="on", fsync="volatile"),
        Options(index="on", fsync="volatile", metacopy=True),
    ],
    ids=["index=off", "index=on", "metacopy=on"],
)


def random_lowers(tmp_path: Path) -> list[Path]:
    """Two layers that random changes begin with, a hard link among them."""
    lowers = [
        build(tmp_path / "top", {"a/b": b"1", "b/a/c": b"2", "c": b"3"}),
        build(tmp_path / "base", {"a/a": b"4", "a/c/d": b"5", "b/a/a": b"6", "c/a": b"7", "d/d": b"8"}),
    ]
    os.link(lowers[1] / "a/a", lowers[1] / "d/a")
    return lowers


@random_options
@pytest.mark.parametrize("seed", range(12))
def test_random_changes_with_snapshots_between(tmp_path: Path, seed: int, options: Options) -> None:
    choose = random.Random(seed)  # noqa: S311  no secret
    lowers = random_lowers(tmp_path)
    live = Live(tmp_path, lowers, options)
    for _ in range(25):
        for _ in range(choose.randint(1, 12)):
            step(live.client, choose)
        live.kernel = Memory(live.client)
        seen = live.seen()
        inos = live.inos()
        live.take()
        assert (live.seen(), live.inos()) == (seen, inos)
        if choose.random() < 0.3:
            live.kernel.let_go()
            assert live.seen() == seen
        if choose.random() < 0.2:
            live.assert_like_fresh_mount()
    live.assert_like_fresh_mount()
    seen = live.kernel.tree()
    live.union.close()
    assert _shown_by_kernel(live) == {path: (found[0][0], found[1]) for path, found in seen.items()}


def _shown_by_kernel(live: Live) -> dict[bytes, Any]:
    """Mode and contents by path, as the kernel's OverlayFS shows the same layers."""
    merged = build(live.top / "oracle", {})
    KERNEL.mount([live.upper, *live.snapshots.chain(), *live.lowers], None, None, merged, ("redirect_dir=on", "metacopy=on"))
    try:
        shown: dict[bytes, Any] = {}
        for path in (merged, *merged.rglob("*")):
            mode = path.lstat().st_mode
            if path.is_dir():
                found: Any = sorted((os.fsencode(child.name), child.lstat().st_mode >> 12) for child in path.iterdir())
            else:
                found = path.read_bytes()
            relative = os.fsencode(path.relative_to(merged))
            shown[b"" if relative == b"." else b"/" + relative] = mode, found
        return shown
    finally:
        KERNEL.umount(merged)
