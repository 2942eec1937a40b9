"""A crash at any point of a snapshot, a rollback or a merge: what is shown is whole, and a snapshot is there or is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.overlay.client import ROOT, Client, build
from tests.overlay.test_crash import CrashError, PowerSwitch
from tests.overlay.test_live_snapshot import NAMES, Memory
from unionfs.mounter import snapshots as commands
from unionfs.overlay import Options, Stack, Union, new_upper, snapshots
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshots

OPTIONS = Options(index="on", fsync="volatile")


def _stack(top: Path) -> Stack:
    upper, work = top / "upper", top / ".upper.work"
    found = Snapshots(upper, PrivateXattrs())
    found.recover(work)
    chain = found.chain()
    return Stack((*chain, top / "lower"), upper, work, snapshots=len(chain))


def _make(top: Path) -> Client:
    """A union with a bit of everything, and a file that the kernel writes to by itself."""
    lower = build(top / "lower", {"a": b"a", "b": b"b", "d/x": b"x", "d/c": b"c", "gone": b"g"})
    os.link(lower / "a", lower / "d/a")
    build(top / "upper", {})
    build(top / ".upper.work", {})
    client = Client(Union(_stack(top), OPTIONS))
    client.write("a", b"indexed")
    client.unlink("gone")
    client.mkdir("made")
    client.write("made/w", b"written")
    client.call(client.union.link, client.node("made/w"), *client.place("d/w"))
    client.write("b", b"upper")
    return client


def _pin(client: Client) -> None:
    node = client.node("made/w")
    client.call(client.union.open, node, os.O_RDWR, ROOT)
    client.union.pin(node)


def _seen(top: Path) -> dict[bytes, Any]:
    """What a new mount shows, but how many links directories have."""
    union = Union(_stack(top), OPTIONS)
    try:
        tree = Memory(Client(union)).tree(NAMES)
    finally:
        union.close()
    return {path: found if found[0][0] >> 12 != 4 else found[1:] for path, found in tree.items()}


def _guarded(patch: pytest.MonkeyPatch) -> PowerSwitch:
    switch = PowerSwitch(patch)
    for module in (new_upper, snapshots):
        patch.setattr(module, "renameat2", switch._guarded(module.renameat2))
    patch.setattr(Path, "write_text", switch._guarded(Path.write_text))
    return switch


def _crash_everywhere(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], Any],
    operate: Callable[[Path, Any], None],
    check: Callable[[Path], None],
) -> int:
    """``operate`` on what ``prepare`` made, with a crash before each of its changing system calls; how many there were."""
    remaining = 0
    while True:
        top = directory / f"crash{remaining}"
        prepared = prepare(top)
        try:
            with monkeypatch.context() as patch:
                switch = _guarded(patch)
                switch.remaining = remaining
                operate(top, prepared)
        except CrashError:
            pass
        else:
            check(top)
            return remaining
        finally:
            if isinstance(prepared, Client):
                prepared.union.close()
        check(top)
        shutil.rmtree(top)
        remaining += 1


def test_crash_of_a_snapshot_leaves_one_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = _make(tmp_path / "reference")
    client.union.close()
    before = _seen(tmp_path / "reference")
    taken: list[bool] = []

    def prepare(top: Path) -> Client:
        made = _make(top)
        _pin(made)
        return made

    def operate(_top: Path, made: Client) -> None:
        made.union.prepare_snapshot("one").take()

    def check(top: Path) -> None:
        # The program that has the file open outlives the daemon.
        with (top / "upper/made/w").open("r+b") as file:
            file.write(b"WRITTEN")
        expected = dict(before)
        for path in (b"/made/w", b"/d/w"):
            expected[path] = (before[path][0], b"WRITTEN", before[path][2])
        assert _seen(top) == expected
        found = Snapshots(top / "upper", PrivateXattrs())
        taken.append(bool(found.all()))
        if found.all():
            layer = found.get(1).layer
            assert (layer / "made/w").read_bytes() == (layer / "d/w").read_bytes() == b"written"
            assert (layer / "made/w").stat().st_ino == (layer / "d/w").stat().st_ino
            assert (layer / "made/w").stat().st_nlink == (top / "upper/made/w").stat().st_nlink == 2
        left = set(os.listdir(found.directory)) if found.directory.exists() else set()
        assert left <= {"1"}

    assert _crash_everywhere(tmp_path, monkeypatch, prepare, operate, check) > 30
    assert taken == sorted(taken)
    assert {True, False} == set(taken)


def _with_two(top: Path) -> dict[bytes, Any]:
    """Two snapshots and something on top; not mounted."""
    client = _make(top)
    client.union.prepare_snapshot("one").take()
    client.write("d/x", b"second")
    client.unlink("b")
    client.rename("made", "moved")
    client.union.prepare_snapshot("two").take()
    client.write("b", b"third")
    client.union.close()
    return _seen(top)


def test_crash_of_a_merge_changes_nothing_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))
    seen = _with_two(tmp_path / "reference")

    def check(top: Path) -> None:
        assert _seen(top) == seen

    def operate(top: Path, _: object) -> None:
        commands.merge(top / "upper", "one", "two")

    operations = _crash_everywhere(tmp_path, monkeypatch, _with_two, operate, check)
    assert operations > 10
    done = Snapshots(tmp_path / f"crash{operations}/upper", PrivateXattrs())
    assert [snapshot.about.name for snapshot in done.all()] == ["two"]


def test_crash_of_a_rollback_leaves_the_state_before_or_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_RUNTIME_DIR", str(tmp_path / "run"))
    before = _with_two(tmp_path / "reference")
    commands.rollback(tmp_path / "reference/upper", "one", discard=False)
    after = _seen(tmp_path / "reference")
    assert before != after

    def check(top: Path) -> None:
        assert _seen(top) in (before, after)
        names = {snapshot.about.name for snapshot in Snapshots(top / "upper", PrivateXattrs()).all()}
        assert {"one", "two"} <= names
        assert len(names) == (3 if _seen(top) == after else 2)

    def operate(top: Path, _: object) -> None:
        commands.rollback(top / "upper", "one", discard=False)

    assert _crash_everywhere(tmp_path, monkeypatch, _with_two, operate, check) > 10


def _mounted_with_two(top: Path) -> Client:
    """Two snapshots and something on top, mounted, with files that are in use."""
    client = _make(top)
    client.union.prepare_snapshot("one").take()
    client.write("d/x", b"second")
    client.write("made/in two", b"two")
    client.unlink("b")
    client.rename("made", "moved")
    client.union.prepare_snapshot("two").take()
    client.write("b", b"third")
    client.write("moved/w", b"third")
    client.unlink("moved/in two")
    node = client.node("moved/w")
    client.call(client.union.open, node, os.O_RDWR, ROOT)
    client.union.pin(node)
    return client


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "discarded"])
def test_crash_of_a_live_rollback_leaves_the_state_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    client = _mounted_with_two(tmp_path / "before")
    client.union.close()
    before = _seen(tmp_path / "before")
    client = _mounted_with_two(tmp_path / "after")
    client.union.prepare_rollback("one", keeps).take(lambda _: None, force=True)
    client.union.close()
    after = _seen(tmp_path / "after")
    assert before != after

    def check(top: Path) -> None:
        seen = _seen(top)
        assert seen in (before, after)
        found = Snapshots(top / "upper", PrivateXattrs())
        names = {snapshot.about.name for snapshot in found.all()}
        assert names - {"3"} == {"one", "two"}
        if seen == before or not keeps:
            assert "3" not in names
        else:
            assert (found.find("3").layer / "moved/w").read_bytes() == b"thirden"
            assert found.find("3").below == (2, 1)
        assert set(os.listdir(found.directory)) <= {"1", "2", "3"}

    def operate(_top: Path, made: Client) -> None:
        rubbish = made.union.prepare_rollback("one", keeps).take(lambda _: None, force=True).rubbish
        if rubbish is not None:
            shutil.rmtree(rubbish)

    assert _crash_everywhere(tmp_path, monkeypatch, _mounted_with_two, operate, check) > 20


def test_crash_of_a_live_merge_changes_nothing_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = _mounted_with_two(tmp_path / "reference")
    client.union.close()
    before = _seen(tmp_path / "reference")

    def check(top: Path) -> None:
        assert _seen(top) == before
        found = Snapshots(top / "upper", PrivateXattrs())
        assert {snapshot.about.name for snapshot in found.all()} in ({"one", "two"}, {"two"})
        assert len(os.listdir(found.directory)) == len(found.all())

    def operate(_top: Path, made: Client) -> None:
        merging = made.union.prepare_merge((2, 1))
        merging.prepare()
        merging.take()

    operations = _crash_everywhere(tmp_path, monkeypatch, _mounted_with_two, operate, check)
    assert operations > 20
    done = Snapshots(tmp_path / f"crash{operations}/upper", PrivateXattrs())
    assert [snapshot.about.name for snapshot in done.all()] == ["two"]


def test_crash_of_a_snapshot_with_a_copy_made_beforehand_leaves_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"x" * 300_000

    def prepare(top: Path) -> Client:
        made = _make(top)
        made.write("made/w", content)
        _pin(made)
        return made

    def operate(_top: Path, made: Client) -> None:
        snapshot = made.union.prepare_snapshot("one")
        work = snapshot.copy_beforehand()
        assert work is not None
        work()
        snapshot.take()

    def check(top: Path) -> None:
        _seen(top)
        assert (top / "upper/made/w").read_bytes() == content
        found = Snapshots(top / "upper", PrivateXattrs())
        for snapshot in found.all():
            assert (snapshot.layer / "made/w").read_bytes() == (snapshot.layer / "d/w").read_bytes() == content
        assert (set(os.listdir(found.directory)) if found.directory.exists() else set()) <= {"1"}

    assert _crash_everywhere(tmp_path, monkeypatch, prepare, operate, check) > 30
