"""Going back to a snapshot under a union in use: what is seen then is what was seen, and whatever is open stays what it was."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.overlay.client import ROOT, Client, build
from tests.overlay.test_live_snapshot import NAMES, Live, Memory, change, random_lowers, random_options, step
from unionfs.filesystem import ROOT_ID
from unionfs.overlay import LimitedUnion, Options, Stack
from unionfs.overlay.live_rollback import RolledBack


def roll_back(live: Live, name: str, *held: int, keeps: bool = True, force: bool = False) -> RolledBack:
    """As the daemon does it; with ``held`` only these nodes are in use, so that the kernel lets go of the others before."""
    rollback = live.union.prepare_rollback(name, keeps)
    look = rollback.look()
    names = [stale for entry in look.in_the_way for stale in entry.names]
    look.discard()
    live.kernel.tell(names)
    if held:
        live.kernel.let_go(*held)
    done = rollback.take(lambda _: None, force=force)
    live.kernel.tell(done.notices)
    if done.rubbish is not None:
        shutil.rmtree(done.rubbish)
    return done


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


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "discarded"])
def test_rollback_shows_what_was_seen_from_memory_too(live: Live, keeps: bool) -> None:
    live.client.write("f", b"first")
    live.client.write("d/n", b"n")
    seen = live.seen()
    live.take("one")
    inos = live.inos()
    change(live.client)
    live.client.unlink("d/n")
    live.client.write("d/sub/s", b"changed")
    live.seen()
    done = roll_back(live, "one", keeps=keeps, force=True)
    assert live.seen() == seen
    assert live.inos() == inos
    assert (done.kept is not None) == keeps
    live.kernel.let_go()
    assert live.seen() == seen
    live.assert_like_fresh_mount()
    assert live.seen() == seen


def test_what_there_was_is_kept_and_can_be_gone_back_to(live: Live) -> None:
    live.take("one")
    change(live.client)
    live.take("two")
    live.client.write("f", b"latest")
    live.client.unlink("new")
    live.kernel = Memory(live.client)
    seen = live.seen()
    done = roll_back(live, "one", ROOT_ID)
    assert live.client.read("f") == b"lower"
    live.client.write("other", b"other")
    assert done.kept is not None
    roll_back(live, done.kept.about.name, ROOT_ID)
    assert live.seen() == seen
    live.assert_like_fresh_mount()
    assert [snapshot.about.name for snapshot in live.snapshots.all()] == ["one", "two", "3", "4"]


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "discarded"])
def test_open_files_keep_their_old_data(live: Live, keeps: bool) -> None:
    client, call = live.client, live.client.call
    live.take("one")
    client.write("f", b"in two")
    live.take("two")
    client.write("n", b"in the upper")
    client.mkdir("made")
    nodes = [client.node("f"), client.node("n"), client.node("made")]
    live.union.pin(nodes[1])
    live.union._nodes.written.clear()
    roll_back(live, "one", *nodes, keeps=keeps)
    assert [bytes(call(live.union.read, node, 0, 100)) for node in nodes[:2]] == [b"in two", b"in the upper"]
    assert [live.union.getattr(node).nlink for node in nodes] == [0, 0, 0]
    assert [row.name for row in live.union.readdir(nodes[2], 0)] == [b".", b".."]
    with pytest.raises(FileNotFoundError):
        call(live.union.mkdir, nodes[2], b"in", 0o755, ROOT)
    assert client.read("f") == b"lower"
    live.union.unpin(nodes[1])
    assert call(live.union.write, nodes[0], 0, b"IN") == 2
    assert bytes(call(live.union.read, nodes[0], 0, 100)) == b"IN two"
    live.kernel.let_go()
    assert live.seen()[b"/f"][1] == b"lower"
    assert (live.snapshots.find("two").layer / "f").read_bytes() == b"in two"
    # The layers that nobody uses any more are closed with the next rollback.
    roll_back(live, "one", keeps=False)
    assert len(live.union._detached) == 0
    live.assert_like_fresh_mount()


def test_snapshot_with_open_files_is_not_removed_before_they_are_closed(live: Live) -> None:
    live.take("one")
    live.client.write("n", b"open")
    live.take("two")
    live.client.write("n", b"changed")
    kept = roll_back(live, "one", live.client.node("n"), force=True).kept
    assert kept is not None
    with pytest.raises(OSError, match="files in it are open"):
        live.union.set_snapshot_aside(kept.number)
    with pytest.raises(OSError, match="files in it are open"):
        live.union.prepare_merge((kept.number, 2))
    live.kernel.let_go()
    shutil.rmtree(live.union.set_snapshot_aside(kept.number))
    assert [snapshot.about.name for snapshot in live.snapshots.all()] == ["one", "two"]


def test_file_open_for_writing_refuses_the_rollback(live: Live) -> None:
    live.take("one")
    live.client.write("w", b"written")
    live.seen()
    with pytest.raises(OSError, match="w is open for writing"):
        roll_back(live, "one")
    assert live.client.read("w") == b"written"
    assert [snapshot.about.name for snapshot in live.snapshots.all()] == ["one"]
    assert os.listdir(live.snapshots.directory) == ["1"]


def test_file_open_for_writing_goes_on_without_a_name_and_a_copy_stays_in_the_snapshot(live: Live) -> None:
    client, union = live.client, live.union
    live.take("one")
    client.write("w", b"before")
    client.call(union.link, client.node("w"), ROOT_ID, b"second")
    node = client.node("w")
    union.pin(node)
    with (live.upper / "w").open("r+b") as kernel:  # as passthrough has it open
        opened = client.call(union.open, node, os.O_RDWR, ROOT)
        kept = roll_back(live, "one", force=True).kept
        kernel.write(b"after!")
        kernel.flush()
        assert os.fstat(kernel.fileno()).st_nlink == 0
    assert kept is not None
    assert kept.about.is_consistent
    assert (kept.layer / "w").read_bytes() == (kept.layer / "second").read_bytes() == b"before"
    assert (kept.layer / "w").stat().st_ino == (kept.layer / "second").stat().st_ino
    assert bytes(client.call(union.read, node, 0, 100)) == b"after!"
    assert client.call(union.open, node, os.O_RDWR, ROOT).generation == opened.generation
    assert live.kernel.lookup(ROOT_ID, b"w") is None
    union.unpin(node)
    live.assert_like_fresh_mount()


def test_file_written_through_the_daemon_is_copied_before_it_changes(live: Live) -> None:
    live.take("one")
    live.client.write("w", b"before")
    node = live.client.node("w")
    kept = roll_back(live, "one", force=True).kept
    assert live.client.call(live.union.write, node, 0, b"after!") == 6
    assert kept is not None
    assert (kept.layer / "w").read_bytes() == b"before"
    assert bytes(live.client.call(live.union.read, node, 0, 100)) == b"after!"
    live.assert_like_fresh_mount()


def test_names_of_an_indexed_file_are_those_of_the_snapshot(tmp_path: Path) -> None:
    lower = build(tmp_path / "lower", {"a": b"lower", "d/x": b""})
    os.link(lower / "a", lower / "d/b")
    live = Live(tmp_path, [lower], Options(index="on", fsync="volatile"))
    live.take("one")
    live.client.write("a", b"upper")
    assert live.client.read("d/b") == b"upper"
    live.seen()
    kept = roll_back(live, "one", force=True).kept
    assert kept is not None
    assert (kept.layer / "a").stat().st_ino == (kept.layer / "d/b").stat().st_ino
    assert [live.client.read(name) for name in ("a", "d/b")] == [b"lower"] * 2
    live.client.write("d/b", b"third")
    assert [live.client.read(name) for name in ("a", "d/b")] == [b"third"] * 2
    assert live.client.attr("a").nlink == 2
    live.assert_like_fresh_mount()
    live.union.close()


def test_name_that_must_not_go_refuses_the_rollback(live: Live) -> None:
    live.take("one")
    live.client.mkdir("made")
    seen: list[list[str]] = []

    def refuse(paths: list[str]) -> None:
        seen.append(paths)
        raise OSError(16, "mounted on")

    with pytest.raises(OSError, match="mounted on"):
        live.union.prepare_rollback("one", True).take(refuse, force=True)
    assert seen == [["made"]]
    assert os.listdir(live.snapshots.directory) == ["1"]
    assert live.client.names("made") == []


@random_options
@pytest.mark.parametrize("seed", range(12))
def test_random_changes_with_rollbacks_between(tmp_path: Path, seed: int, options: Options) -> None:
    choose = random.Random(seed)  # noqa: S311  no secret
    lowers = random_lowers(tmp_path)
    live = Live(tmp_path, lowers, options)
    states: dict[str, dict[bytes, Any]] = {}
    for _ in range(20):
        for _ in range(choose.randint(1, 12)):
            step(live.client, choose)
        live.kernel = Memory(live.client)
        seen = live.seen()
        if not states or choose.random() < 0.5:
            name = live.take().snapshot.about.name
        else:
            target = choose.choice(list(states))
            kept = roll_back(live, target, keeps=choose.random() < 0.6, force=True).kept
            assert live.seen() == states[target]
            name = kept.about.name if kept is not None else ""
        if name:
            states[name] = seen
        if choose.random() < 0.3:
            live.kernel.let_go()
            live.kernel = Memory(live.client)
        if choose.random() < 0.3:
            live.assert_like_fresh_mount()
    for target, seen in states.items():
        roll_back(live, target, keeps=False, force=True)
        assert live.seen() == seen
    live.kernel.tree(NAMES)
    live.assert_like_fresh_mount()
    live.union.close()


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "discarded"])
def test_size_limit_goes_on_with_what_the_new_upper_takes(tmp_path: Path, keeps: bool) -> None:
    live = Live(tmp_path, [build(tmp_path / "lower", {})], Options(fsync="volatile"))
    live.union.close()
    live.client = Client(LimitedUnion(Stack(tuple(live.lowers), live.upper, live.work), live.options, 1 << 20))
    live.kernel = Memory(live.client)
    live.take("one")
    empty = live.union.statistics()["size_used"]
    live.client.write("w", b"w" * 600_000)
    node = live.client.node("w")
    full = live.union.statistics()["size_used"]
    assert full >= empty + 600_000
    # Of the two files a kernel writes one by itself, and so it goes on without a name.
    live.union.pin(node)
    roll_back(live, "one", keeps=keeps, force=True)
    assert live.union.statistics()["size_used"] == full
    new = live.client.call(live.union.create, ROOT_ID, b"x", os.O_WRONLY, 0o644, ROOT)[0].node
    assert live.client.call(live.union.write, new, 0, b"x" * (1 << 20)) <= (1 << 20) - full
    live.client.unlink("x")
    live.union.unpin(node)
    live.kernel.let_go()
    assert live.union.statistics()["size_used"] == empty
    live.union.close()
