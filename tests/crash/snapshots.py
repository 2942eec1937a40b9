"""Snapshots of an upper: taken, gone back to, merged, removed; of a union in use, and of one that is not mounted.

The commands for what is not mounted look into the registry of mounts: ``UNIONFS_RUNTIME_DIR`` shall name one that is empty.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.scenario import Act, Found
from tests.faults.tree import make_lower, shown_by, shown_by_new
from tests.overlay.client import ROOT, Client, build
from unionfs.check.checked_stack import Directories
from unionfs.check.checker import check
from unionfs.mounter import snapshots as commands
from unionfs.overlay import Options, Stack, Union
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshots


class SnapshotChange(NamedTuple):
    """``prepare`` is done to the upper before; ``change`` to the union in use if it is ``live``, otherwise to the upper."""

    options: Options
    prepare: Callable[[Path, Options], None]
    live: Callable[[Union], object] | None = None
    offline: Callable[[Path], object] = lambda _: None

    def make(self, top: Path) -> None:
        """See `Scenario.make`."""
        make_lower(top / "lower", linked=True)
        for name in ("upper", ".upper.work"):
            build(top / name, {})
        with _union(top, self.options) as union:
            _change_all(Client(union))
        self.prepare(top, self.options)

    def begin(self, top: Path) -> Act:
        """See `Scenario.begin`.  A file that was written to is open for writing, so the kernel may go on with that."""
        live = self.live
        if live is None:
            return lambda: self.offline(top / "upper")
        union = Union(_stack(top), self.options)
        client = Client(union)
        node = client.node("made/w")
        client.call(union.open, node, os.O_RDWR, ROOT)
        union.pin(node)
        return lambda: live(union)

    def look(self, top: Path, *, last: bool = True) -> Found:
        """See `Scenario.look`."""
        del last
        with _union(top, self.options) as union:
            merged, inos = shown_by(Client(union))
        left = os.listdir(top / ".upper.work/work")
        state: dict[str, object] = dict(merged)
        problems = [f"the next mount leaves {left} in the work directory"] if left else []
        snapshots = Snapshots(top / "upper", PrivateXattrs())
        for snapshot in snapshots.all():
            layers = snapshots.layers((snapshot.number, *snapshot.below))
            shown, _ = shown_by_new(Stack((*layers, top / "lower")), self.options)
            state[f"snapshot {snapshot.about.name}"] = shown
        names = set(os.listdir(snapshots.directory)) if snapshots.directory.exists() else set()
        if names != {str(snapshot.number) for snapshot in snapshots.all()}:
            problems.append(f"beside the snapshots there are {names}")
        lowers = (*snapshots.chain(), top / "lower")
        for outcome in check(Directories(top / "upper", top / ".upper.work", lowers)):
            if outcome.is_left:
                problems.append(f"`unionfs check` finds: {outcome.finding.path}: {outcome.finding.problem}")
        return Found(state, inos, problems)


def snapshot_changes(options: Options) -> Iterator[tuple[str, SnapshotChange]]:
    """All of them, each with what it is in words."""
    yield "snapshot", SnapshotChange(options, _nothing, lambda union: union.prepare_snapshot("one").take())
    yield "snapshot with a copy beforehand", SnapshotChange(options, _write_much, _take_with_copy)
    for words, discard in (("", False), (", discarding", True)):
        yield f"rollback{words}", SnapshotChange(options, _take_two, lambda union, discard=discard: _roll_back(union, discard))  # type: ignore[misc]
        yield (
            f"rollback{words}, not mounted",
            SnapshotChange(
                options,
                _take_two,
                offline=lambda upper, discard=discard: commands.rollback(upper, "one", discard=discard),  # type: ignore[misc]
            ),
        )
    yield "merge", SnapshotChange(options, _take_two, _merge)
    yield "merge, not mounted", SnapshotChange(options, _take_two, offline=lambda upper: commands.merge(upper, "one", "two"))
    yield "removal", SnapshotChange(options, _go_back, lambda union: shutil.rmtree(union.set_snapshot_aside(2)))
    yield (
        "removal, not mounted",
        SnapshotChange(options, _go_back, offline=lambda upper: commands.remove_snapshot(upper, "two")),
    )


def _stack(top: Path) -> Stack:
    """As a mount finds it, after it has brought in order what a crash left."""
    upper, work = top / "upper", top / ".upper.work"
    snapshots = Snapshots(upper, PrivateXattrs())
    snapshots.recover(work)
    chain = snapshots.chain()
    return Stack((*chain, top / "lower"), upper, work, snapshots=len(chain))


def _union(top: Path, options: Options) -> contextlib.closing[Union]:
    return contextlib.closing(Union(_stack(top), options))


# -- what is done before ------------------------------------------------------------------------------------------------------


def _change_all(client: Client) -> None:
    client.write("f", b"indexed")
    client.unlink("e/only")
    client.mkdir("made")
    client.write("made/w", b"written")
    client.rename("d/sub", "moved")


def _nothing(_top: Path, _options: Options) -> None:
    return


def _write_much(top: Path, options: Options) -> None:
    with _union(top, options) as union:
        Client(union).write("made/w", b"much" * 50_000)


def _take_two(top: Path, options: Options) -> None:
    with _union(top, options) as union:
        client = Client(union)
        union.prepare_snapshot("one").take()
        client.write("d/h", b"second")
        client.write("made/in two", b"two")
        client.unlink("fifo")
        union.prepare_snapshot("two").take()
        client.write("d/h", b"third")
        client.write("made/w", b"third")
        client.unlink("made/in two")


def _go_back(top: Path, options: Options) -> None:
    _take_two(top, options)
    commands.rollback(top / "upper", "one", discard=True)


# -- the changes --------------------------------------------------------------------------------------------------------------


def _take_with_copy(union: Union) -> None:
    snapshot = union.prepare_snapshot("one")
    work = snapshot.copy_beforehand()
    assert work is not None
    work()
    snapshot.take()


def _roll_back(union: Union, discard: bool) -> None:
    rubbish = union.prepare_rollback("one", keeps=not discard).take(lambda _: None, force=True).rubbish
    if rubbish is not None:
        shutil.rmtree(rubbish)


def _merge(union: Union) -> None:
    merging = union.prepare_merge((2, 1))
    merging.prepare()
    merging.take()
