"""Another worker takes a union over whose layers were changed: what the kernel knows is what it was."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.overlay.client import ROOT, build
from tests.overlay.disturbed_world import no_intent
from tests.overlay.handover import HandedOver
from tests.overlay.test_crash import CrashError
from tests.overlay.test_live_snapshot import Memory, random_lowers, step, two_names
from tests.overlay.test_live_snapshot_crash import _guarded as guarded
from unionfs.filesystem import ROOT_ID
from unionfs.journal import records
from unionfs.journal.journal import Finished
from unionfs.journal.recovered import read_journal
from unionfs.overlay import Options, kinds, open_lower
from unionfs.overlay.inode import Inode


@pytest.fixture(params=["off", "on"], ids=["index=off", "index=on"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HandedOver]:
    lower = build(tmp_path / "lower", {"f": b"lower", "d/x": b"x"})
    union = HandedOver(tmp_path, [lower], Options(index=request.param, fsync="volatile"))
    yield union
    union.union.close()


def _changed_in_two_snapshots(live: HandedOver) -> tuple[int, int]:
    """A file and a directory that the first of two snapshots made; the nodes of them."""
    live.client.mkdir("own")
    live.client.write("own/n", b"first")
    live.take("one")
    live.client.write("own/n", b"second")
    live.client.write("own/more", b"more")
    live.take("two")
    return live.client.node("own/n"), live.client.node("own")


def _added(live: HandedOver, name: str) -> None:
    added = open_lower(0, build(live.top / name, {f"{name}/file": b"added"}))
    live.union.begin_change()
    live.kernel.tell(live.union.change_layers([added, *live.union.lowers]).apply())
    live.union.end_change()


# -- objects without a name ---------------------------------------------------------------------------------------------------


def _removed_in_a_merged_layer(live: HandedOver) -> tuple[int, int]:
    """A file and a directory of a snapshot that are in use, and removed; then it is merged."""
    live.client.write("u", b"unlinked")
    live.client.mkdir("gone")
    live.client.chmod("gone", 0o750)
    live.take("one")
    live.take("two")
    nodes = live.client.node("u"), live.client.node("gone")
    live.client.unlink("u")
    live.client.rmdir("gone")
    return nodes


def test_removed_objects_of_merged_layers_go_on(live: HandedOver) -> None:
    file, directory = _removed_in_a_merged_layer(live)
    live.merge(2, 1)
    before = live.known()
    for _ in range(2):
        assert live.take_over().lost == 0
        assert live.known() == before
    assert live.union.getattr(directory).mode & 0o7777 == 0o750
    live.client.call(live.union.write, file, 0, b"UN")
    assert bytes(live.client.call(live.union.read, file, 0, 100)) == b"UNlinked"
    live.kernel.let_go()
    live.take("three")
    live.merge(4, 3)
    assert os.listdir(live.snapshots.directory) == ["5"]


def test_removed_objects_of_layers_that_were_being_merged_go_on(live: HandedOver) -> None:
    _removed_in_a_merged_layer(live)
    live.journal.flush()
    before = live.known()
    merging = live.union.prepare_merge((2, 1))
    merging.prepare()
    live.union.begin_change()
    merging.take()
    assert live.go_on().lost == 0
    assert live.known() == before


def test_what_was_kept_for_a_merge_that_did_not_come_to_pass_goes(live: HandedOver) -> None:
    _removed_in_a_merged_layer(live)
    live.journal.flush()
    before = live.known()
    build(live.snapshots.kept_directory(3), {"4711": b"nobody's"})
    assert live.take_over().lost == 0
    assert live.known() == before
    assert sorted(os.listdir(live.snapshots.directory)) == ["1", "2"]


def _read(live: HandedOver, node: int) -> bytes:
    return bytes(live.client.call(live.union.read, node, 0, 100))


@pytest.mark.parametrize("in_upper", [True, False], ids=["upper", "snapshot"])
def test_removed_metadata_only_copy_keeps_its_data(tmp_path: Path, in_upper: bool) -> None:
    lower = build(tmp_path / "lower", {"d/f": b"lower"})
    live = HandedOver(tmp_path, [lower], Options(index="on", fsync="volatile", metacopy=True))
    live.client.chmod("d/f", 0o600)
    if not in_upper:
        live.take("one")
    node = live.client.node("d/f")
    live.client.unlink("d/f")
    for _ in range(2):
        assert live.take_over().lost == 0
        assert _read(live, node) == b"lower"
    live.client.call(live.union.write, node, 0, b"LO")
    assert live.take_over().lost == 0
    assert _read(live, node) == b"LOwer"
    live.union.close()


def test_removed_metadata_only_copy_whose_data_was_merged_away_keeps_it(tmp_path: Path) -> None:
    live = HandedOver(tmp_path, [build(tmp_path / "lower", {"g": b""})], Options(index="on", fsync="volatile", metacopy=True))
    live.client.write("f", b"data")
    live.take("one")
    live.client.chmod("f", 0o600)
    live.take("two")
    node = live.client.node("f")
    live.client.unlink("f")
    live.take("three")
    live.merge(3, 2, 1)
    for _ in range(2):
        assert live.take_over().lost == 0
        assert _read(live, node) == b"data"
    live.union.close()


def test_removed_file_of_a_layer_that_a_rollback_left_goes_on(live: HandedOver) -> None:
    live.take("one")
    live.client.write("u", b"unlinked")
    live.take("two")
    node = live.client.node("u")
    live.union.begin_change()
    live.kernel.tell(live.union.prepare_rollback("one", keeps=True).take(lambda _: None, force=False).notices)
    live.union.end_change()
    for _ in range(2):
        assert live.take_over().lost == 0
        assert bytes(live.client.call(live.union.read, node, 0, 100)) == b"unlinked"
    with pytest.raises(OSError, match="files in it are open"):
        live.union.set_snapshot_aside(2)


# -- names --------------------------------------------------------------------------------------------------------------------


def test_names_that_a_snapshot_parted_lead_to_files_of_their_own_though_the_worker_died_over_it(tmp_path: Path) -> None:
    live = HandedOver(tmp_path, [build(tmp_path / "lower", {})], Options(index="off", fsync="volatile"))
    live.client.write("a", b"both")
    live.client.call(live.union.link, live.client.node("a"), ROOT_ID, b"b")
    live.journal.flush()
    live.union.begin_change()
    live.union.prepare_snapshot(None).take()
    live.go_on()
    assert live.client.node("a") != live.client.node("b")
    live.client.write("a", b"mine")
    assert (live.client.read("a"), live.client.read("b")) == (b"mine", b"both")
    live.union.close()


# -- inode numbers ------------------------------------------------------------------------------------------------------------


def test_what_has_the_number_of_a_merged_object_goes_on_showing_it(live: HandedOver) -> None:
    nodes = _changed_in_two_snapshots(live)
    inos = [live.union.getattr(node).ino for node in nodes]
    live.merge(2, 1)
    live.take_over()
    assert [live.union.getattr(node).ino for node in nodes] == inos
    live.client.write("own/n", b"third")
    live.client.rename("own/n", "moved")
    live.take_over()
    assert [live.union.getattr(node).ino for node in nodes] == inos
    assert live.client.attr("moved").ino == inos[0]


def test_number_of_a_merged_object_stays_though_the_worker_dies_over_the_merge(live: HandedOver) -> None:
    nodes = _changed_in_two_snapshots(live)
    inos = [live.union.getattr(node).ino for node in nodes]
    merging = live.union.prepare_merge((2, 1))
    merging.prepare()
    live.union.begin_change()
    merging.take()
    live.go_on()
    assert [live.union.getattr(node).ino for node in nodes] == inos


def test_nothing_new_shows_a_number_that_is_kept(live: HandedOver) -> None:
    node, _ = _changed_in_two_snapshots(live)
    live.merge(2, 1)
    ino = live.union.getattr(node).ino
    # As where the filesystem gives a new file the number of the removed one.
    other = Inode(live.union._nodes.new_id(), ino, 8, live.union._tree.upper_layer.root, b"new")
    live.union._nodes.add(other)
    live.union._nodes.attach(other, live.union._tree.root, b"new")
    assert live.union.getattr(node).ino == ino
    assert other.ino != ino


def test_directory_over_which_a_layer_was_added_goes_on_showing_its_number(live: HandedOver) -> None:
    ino = live.union.getattr(ROOT_ID).ino
    _added(live, "added")
    assert live.union.getattr(ROOT_ID).ino == ino
    live.take_over()
    assert live.union.getattr(ROOT_ID).ino == ino


# -- a death at any point -----------------------------------------------------------------------------------------------------


def _with_a_bit_of_everything(top: Path, written: tuple[str, ...]) -> HandedOver:
    """``written``: what the kernel may write to by itself."""
    lower = build(top / "lower", {"a": b"a", "d/x": b"x", "d/c": b"c", "moves/m": b"m", "gone": b"g", "u": b"u"})
    os.link(lower / "a", lower / "d/a")
    os.link(lower / "moves/m", lower / "d/m")
    live = HandedOver(top, [lower], Options(index="on", fsync="volatile"))
    client = live.client
    client.mkdir("new")
    client.write("new/n", b"first")
    client.write("d/x", b"changed")
    live.take("one")
    client.rename("moves", "new/moved")
    client.write("a", b"indexed")
    client.unlink("d/m")
    client.write("new/n", b"second")
    client.call(client.union.link, client.node("new/n"), *client.place("d/n"))
    live.take("two")
    client.write("new/n", b"third")
    client.write("d/c", b"upper")
    client.unlink("gone")
    for path in ("u", "d/x"):
        client.node(path)
        client.unlink(path)
    client.call(client.union.tmpfile, ROOT_ID, 0o600, ROOT)
    for path in written:
        client.call(live.union.open, client.node(path), os.O_RDWR, ROOT)
        live.union.pin(client.node(path))
    live.seen()
    return live


def _take(live: HandedOver) -> None:
    live.take("three")


def _merge(live: HandedOver) -> None:
    live.merge(2, 1)


@pytest.mark.parametrize("written", [(), ("new/n", "d/c")], ids=["cached", "passthrough"])
@pytest.mark.parametrize("change", [_take, _merge])
def test_all_goes_on_where_the_worker_dies_in_a_change(
    change: Callable[[HandedOver], None], written: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = True
    remaining = 0
    while died:
        live = _with_a_bit_of_everything(tmp_path / f"{remaining}", written)
        shown, known, record = (live.seen(), live.inos()), live.known(), live.record
        live.journal.flush()
        with monkeypatch.context() as patch:
            guarded(patch).remaining = remaining
            try:
                change(live)
                died = False
            except CrashError:
                died = True
        assert live.go_on(record if died else None).lost == 0
        assert live.known() == known
        live.kernel = Memory(live.client)
        assert (live.seen(), live.inos()) == shown
        live.union.close()
        shutil.rmtree(live.top)
        remaining += 1
    assert remaining > 20


def test_file_of_the_index_whose_other_names_nobody_knows_is_one_file_for_the_next_worker(tmp_path: Path) -> None:
    live = HandedOver(tmp_path, [two_names(tmp_path)], Options(index="on", fsync="volatile"))
    live.client.write("a", b"upper")
    node = live.client.node("a")
    live.client.unlink("a")
    assert live.take_over().lost == 0
    assert live.union.getattr(node).nlink == 1
    assert live.client.node("d/other") == node
    live.union.close()


def test_name_that_nobody_holds_does_not_take_the_file_from_those_who_do(tmp_path: Path) -> None:
    """A worker that dies in a snapshot may have written down what it had looked up for that alone."""
    live = HandedOver(tmp_path, [two_names(tmp_path)], Options(index="on", fsync="volatile"))
    node = live.client.node("a")
    number = live.union.getattr(node).ino
    directory = live.client.node("d")
    live.journal.touched[Finished(records.node(node + 1000, 0, directory, b"other"))] = None
    live.journal.touched[live.union._tree.nodes.find(node)] = None  # behind it
    for _ in range(2):
        assert live.take_over().lost == 0
        assert live.union.getattr(node).ino == number
        assert node + 1000 not in read_journal(live.journal._file, no_intent).nodes
    live.union.close()


def test_directory_that_was_forgotten_before_what_is_in_it_goes_with_that(live: HandedOver) -> None:
    file, directory = live.client.node("d/x"), live.client.node("d")
    live.journal.flush()
    live.union.forget(directory, live.union._tree.nodes.get(directory).nlookup)
    assert live.take_over().lost == 0
    live.union.forget(file, live.union._tree.nodes.get(file).nlookup)
    assert live.union._tree.nodes.find(directory) is None


# -- everything ---------------------------------------------------------------------------------------------------------------


def _change(live: HandedOver, choose: random.Random, number: int) -> None:
    """One change of the layers."""
    chain = live.snapshots.below(live.upper)
    added = [layer for layer in live.union.lowers if layer.path.name.startswith("added")]
    match choose.choice(("take", "take", "merge", "merge", "add")):
        case "take":
            live.take()
        case "merge" if len(chain) > 1 and not added:
            start = choose.randrange(len(chain) - 1)
            live.merge(*chain[start : start + choose.randint(2, 4)])
        case "add" if not added:
            _added(live, f"added-{number}")


def _open_some(live: HandedOver, choose: random.Random) -> None:
    """The kernel closes files, and opens others."""
    for node in list(live.opens):
        if choose.random() < 0.3:
            live.release(node)
    files = [inode.node for inode in live.union._nodes if inode.kind == kinds.REG and inode.nlookup > 0]
    for node in choose.sample(files, min(len(files), 3)):
        live.open_passthrough(node, choose.choice((os.O_RDONLY, os.O_RDWR)))


@pytest.mark.parametrize("passthrough", [False, True], ids=["cached", "passthrough"])
@pytest.mark.parametrize("seed", range(12))
def test_random_changes_with_changes_of_layers_and_takeovers_between(tmp_path: Path, seed: int, passthrough: bool) -> None:
    choose = random.Random(seed)  # noqa: S311  no secret
    live = HandedOver(tmp_path, random_lowers(tmp_path), Options(index="on", fsync="volatile"))
    took_over = False
    for number in range(16):
        for _ in range(choose.randint(1, 12)):
            step(live.client, choose)
            live.union.notices.clear()
            live.journal.flush()
        if passthrough:
            _open_some(live, choose)
        _change(live, choose, number)
        live.kernel = Memory(live.client)
        shown, known = (live.seen(), live.inos()), live.known()
        standing = [inode for inode in live.union._nodes if inode.successor is None]
        # The next worker does not know of every number whether what gave it is gone (docs/snapshots.md, "Merging").
        assert took_over or len({inode.ino for inode in standing}) == len(standing)
        if choose.random() < 0.3:
            live.kernel.let_go(*live.opens)
        elif choose.random() < 0.6:
            took_over = True
            assert live.take_over().lost == 0
            assert live.known() == known
            live.kernel = Memory(live.client)
            assert (live.seen(), live.inos()) == shown
    live.union.close()
