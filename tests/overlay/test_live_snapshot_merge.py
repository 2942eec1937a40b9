"""Snapshots under a union in use become one layer: nothing that is seen changes, and what is open goes on."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.overlay.client import ROOT, Client, build
from tests.overlay.test_live_snapshot import Live, Memory, change, random_lowers, random_options, step
from unionfs.overlay import Options, open_lower
from unionfs.overlay.merge_layers import merge_snapshots


class Merging(Live):
    """Of what only the merged snapshots knew the inode number is another one when it has been forgotten; names that were hidden
    in one of them no longer count as links."""

    def seen(self) -> dict[bytes, Any]:
        return {
            path: record if isinstance(record, int) else ((*record[0][:3], 0, *record[0][4:]), *record[1:])
            for path, record in super().seen().items()
        }

    def inos(self) -> dict[bytes, int]:
        shown = self.client.union._tree.inos.shown
        device = self.lowers[0].stat().st_dev
        below = {shown(device, path.stat().st_ino) for lower in self.lowers for path in (lower, *lower.rglob("*"))}
        return {path: ino for path, ino in super().inos().items() if ino in below}


def merge(live: Live, *numbers: int) -> None:
    merging = live.union.prepare_merge(numbers)
    merging.prepare()
    live.kernel.tell(merging.take())


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    return build(
        tmp_path / "lower",
        {"f": b"lower", "gone": b"gone", "d/x": b"x", "d/sub/s": b"s", "moves/m": b"m", "opaque/o": b"o", "only/here": b"h"},
    )


@pytest.fixture(params=["off", "on"], ids=["index=off", "index=on"])
def live(request: pytest.FixtureRequest, tmp_path: Path, lower: Path) -> Iterator[Live]:
    union = Merging(tmp_path, [lower], Options(index=request.param, fsync="volatile"))
    yield union
    union.union.close()


def two_snapshots(live: Live) -> None:
    change(live.client)
    live.take("one")
    live.client.write("f", b"second")
    live.client.unlink("new")
    live.client.rename("moved", "again")
    live.client.write("made/more", b"more")
    live.client.write("d/added", b"added")
    live.take("two")
    live.client.write("d/added", b"third")


def test_nothing_that_is_seen_changes(live: Live) -> None:
    two_snapshots(live)
    live.kernel = Memory(live.client)
    seen, inos = live.seen(), Live.inos(live)
    nodes = {path: live.client.node(path) for path in ("f", "d/added", "d/x", "made/n", "again/m")}
    merge(live, 2, 1)
    assert Live.inos(live) == inos
    assert live.seen() == seen
    assert {path: live.client.node(path) for path in nodes} == nodes
    live.kernel = Memory(live.client)
    assert live.seen() == seen
    assert sorted(os.listdir(live.snapshots.directory)) == ["3", "3.kept"]  # somebody knows "new", which is removed
    assert [layer.path for layer in live.union.lowers] == [live.snapshots.directory / "3/layer", *live.lowers]
    live.kernel.let_go()
    assert live.seen() == seen
    live.assert_like_fresh_mount()


def test_merged_file_has_one_link_and_is_copied_up_alone(live: Live) -> None:
    two_snapshots(live)
    live.kernel.let_go()
    merge(live, 2, 1)
    assert live.client.attr("made/n").nlink == 1
    live.client.write("made/n", b"copied up")
    assert live.client.attr("made/n").nlink == 1
    assert not (live.work / "index").exists() or os.listdir(live.work / "index") == []
    live.assert_like_fresh_mount()


def test_open_files_of_the_old_layers_go_on(live: Live) -> None:
    client, call, union = live.client, live.client.call, live.union
    client.write("n", b"named")
    client.write("u", b"unlinked")
    client.write("w", b"overwritten")
    client.mkdir("made")
    live.take("one")
    client.write("w", b"changed")
    live.take("two")
    nodes = [client.node("n"), client.node("u")]
    directory = client.node("made")
    for node in nodes:
        union.pin(node)
        union._nodes.written.discard(node)
    opened = [call(union.open, node, os.O_RDONLY, ROOT) for node in nodes]
    client.unlink("u")
    client.rmdir("made")
    merge(live, 2, 1)
    assert [bytes(call(union.read, node, 0, 100)) for node in nodes] == [b"named", b"unlinked"]
    assert [call(union.open, node, os.O_RDONLY, ROOT).generation for node in nodes] == [found.generation for found in opened]
    assert [union.getattr(node).nlink for node in (*nodes, directory)] == [1, 0, 0]
    assert [row.name for row in union.readdir(directory, 0)] == [b".", b".."]
    for node in nodes:
        union.unpin(node)
    assert call(union.write, nodes[1], 0, b"UN") == 2
    assert bytes(call(union.read, nodes[1], 0, 100)) == b"UNlinked"
    client.write("n", b"NAMED")
    assert (live.snapshots.find("two").layer / "n").read_bytes() == b"named"
    live.kernel = Memory(client)
    live.assert_like_fresh_mount()
    assert os.listdir(live.snapshots.directory) == ["3"]


def test_file_that_a_later_snapshot_removed_goes_on_while_it_is_open(live: Live) -> None:
    client, union = live.client, live.union
    client.write("u", b"unlinked")
    live.take("one")
    node = client.node("u")
    client.unlink("u")
    live.take("two")
    merge(live, 2, 1)
    assert not (live.snapshots.find("two").layer / "u").exists()
    assert bytes(client.call(union.read, node, 0, 100)) == b"unlinked"
    live.kernel.let_go()
    live.take("three")
    assert len(union._detached) == 1
    merge(live, 4, 3)
    assert len(union._detached) == 0
    assert os.listdir(live.snapshots.directory) == ["5"]
    live.assert_like_fresh_mount()


def test_snapshots_that_nothing_shows_are_merged_as_well(live: Live) -> None:
    change(live.client)
    live.take("one")
    live.take("two")
    live.kernel = Memory(live.client)
    live.union.prepare_rollback("one", keeps=True).take(lambda _: None, force=True)
    live.take("four")
    seen = live.seen()
    lowers = live.union.lowers
    assert not live.union.prepare_merge((3, 2)).is_shown
    merge(live, 3, 2)
    assert live.union.lowers == lowers
    assert live.seen() == seen
    assert [snapshot.number for snapshot in live.snapshots.all()] == [1, 5, 4]
    live.assert_like_fresh_mount()


def changed_in_both(live: Live) -> int:
    """A file, and a directory, whose inode numbers nothing tells of after the merge; the node of the file."""
    live.client.mkdir("own")
    live.client.write("own/n", b"first")
    live.take("one")
    live.client.write("own/n", b"second")
    live.take("two")
    node = live.client.node("own/n")
    merge(live, 2, 1)
    return node


def test_what_has_the_number_of_a_merged_file_goes_on_over_a_change_of_layers(live: Live, tmp_path: Path) -> None:
    node = changed_in_both(live)
    added = open_lower(0, build(tmp_path / "added", {"other": b""}))
    live.kernel.tell(live.union.change_layers([added, *live.union.lowers]).apply())
    live.kernel.tell(live.union.reread_layers(kernel_keeps_sizes=True).apply())
    assert live.client.node("own/n") == node
    live.client.call(live.union.write, node, 0, b"THIRD")
    assert live.client.read("own/n") == b"THIRDd"


def test_what_has_the_number_of_a_merged_file_goes_on_over_a_rollback(live: Live) -> None:
    node = changed_in_both(live)
    live.kernel.tell(live.union.prepare_rollback("two", keeps=False).take(lambda _: None, force=False).notices)
    assert live.client.node("own/n") == node
    assert live.union.getattr(node).nlink == 1


def test_layer_added_between_them_refuses_the_merge(live: Live, tmp_path: Path) -> None:
    live.take("one")
    added = open_lower(0, build(tmp_path / "added", {"added": b""}))
    live.kernel.tell(live.union.change_layers([added, *live.union.lowers]).apply())
    live.take("two")
    with pytest.raises(OSError, match="a layer was added between"):
        live.union.prepare_merge((2, 1))


def test_merge_that_fails_leaves_all_as_it_was(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    two_snapshots(live)
    live.kernel = Memory(live.client)
    seen = live.seen()
    merging = live.union.prepare_merge((2, 1))
    merging.prepare()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(OSError, match="full"):
            merging.take()
    assert live.seen() == seen
    assert sorted(os.listdir(live.snapshots.directory)) == ["1", "2"]
    assert live.client.attr("made/n").nlink == 1
    live.assert_like_fresh_mount()


def test_where_no_device_can_be_made_whiteouts_are_attributes(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    two_snapshots(live)
    live.kernel = Memory(live.client)
    seen, making = live.seen(), os.mknod

    def refuse(path: Any, mode: int = 0o600, *rest: Any, **options: Any) -> None:
        if stat.S_ISCHR(mode):
            raise PermissionError(errno.EPERM, "no devices here")
        making(path, mode, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mknod", refuse)
        merge(live, 2, 1)
    assert os.getxattr(live.snapshots.find("two").layer / "gone", "trusted.overlay.whiteout") == b"y"
    assert live.seen() == seen
    live.assert_like_fresh_mount()


def test_metadata_only_copy_gets_its_data_and_keeps_its_number(tmp_path: Path) -> None:
    lower = build(tmp_path / "lower", {"f": b"data", "a": b"linked"})
    os.link(lower / "a", lower / "b")
    live = Merging(tmp_path, [lower], Options(index="on", fsync="volatile", metacopy=True))
    live.client.chmod("f", 0o600)
    live.client.chmod("a", 0o640)
    live.take("one")
    live.client.chmod("b", 0o600)
    live.client.mkdir("d")
    live.take("two")
    live.kernel = Memory(live.client)
    seen, inos = live.seen(), live.inos()
    merge(live, 2, 1)
    assert live.seen() == seen
    live.kernel = Memory(live.client)
    assert live.inos() == inos
    live.kernel.let_go()
    assert live.inos() == inos
    layer = live.snapshots.find("two").layer
    assert (layer / "f").read_bytes() == b"data"
    assert (layer / "a").stat().st_ino == (layer / "b").stat().st_ino
    live.assert_like_fresh_mount()
    live.union.close()


@random_options
@pytest.mark.parametrize("seed", range(12))
def test_random_changes_with_merges_between(tmp_path: Path, seed: int, options: Options) -> None:
    choose = random.Random(seed)  # noqa: S311  no secret
    lowers = random_lowers(tmp_path)
    live = Merging(tmp_path, lowers, options)
    for _ in range(16):
        for _ in range(choose.randint(1, 12)):
            step(live.client, choose)
        live.take()
        chain = live.snapshots.below(live.upper)
        if len(chain) < 2 or choose.random() < 0.4:
            continue
        start = choose.randrange(len(chain) - 1)
        for _ in range(choose.randint(0, 4)):
            step(live.client, choose)
        live.kernel = Memory(live.client)
        seen, inos = live.seen(), Live.inos(live)
        merge(live, *chain[start : start + choose.randint(2, 4)])
        assert (live.seen(), Live.inos(live)) == (seen, inos)
        live.kernel = Memory(live.client)
        assert live.seen() == seen
        if choose.random() < 0.5:
            live.kernel.let_go()
            assert live.seen() == seen
        if choose.random() < 0.3:
            live.assert_like_fresh_mount()
    live.assert_like_fresh_mount()
    seen = live.seen()
    live.union.close()
    live.snapshots.recover(live.work)
    chain = live.snapshots.below(live.upper)
    if len(chain) > 1:
        merge_snapshots(live.snapshots, chain, is_user=False)
    live.open()
    assert live.seen() == seen
    assert isinstance(live.client, Client)
    live.union.close()
