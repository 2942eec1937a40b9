"""A snapshot of a union in use in which a call fails: nothing that is seen changes, and there is a snapshot or there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.faults.cells import Outcome, Reference, descriptors, difference, number_of
from tests.faults.injection import Fault, injected
from tests.faults.tree import State, make_lower, shown_by
from tests.overlay.client import ROOT, Client, build
from unionfs.overlay import Options, Stack, Union
from unionfs.overlay.private_xattrs import PrivateXattrs
from unionfs.overlay.snapshots import Snapshots

OPTIONS = Options(index="on", fsync="volatile")


class _Live:
    """A union of a directory, with something of everything in its upper and a file that the kernel writes to by itself."""

    def __init__(self, top: Path) -> None:
        make_lower(top / "lower", linked=True)
        self.upper, self.work = build(top / "upper", {}), build(top / "work", {})
        self.top = top
        self.snapshots = Snapshots(self.upper, PrivateXattrs())
        self.union = self.mounted()
        client = Client(self.union)
        client.write("f", b"indexed")
        client.unlink("e/only")
        client.mkdir("made")
        client.write("made/w", b"written")
        client.rename("d/sub", "moved")
        node = client.node("made/w")
        client.call(self.union.open, node, os.O_RDWR, ROOT)
        self.union.pin(node)
        self.before = self.shown()

    def mounted(self) -> Union:
        """A new mount of what is on disk, the way the mounter makes one."""
        self.snapshots.recover(self.work)
        chain = self.snapshots.chain()
        return Union(Stack((*chain, self.top / "lower"), self.upper, self.work, snapshots=len(chain)), OPTIONS)

    def shown(self) -> State:
        return shown_by(Client(self.union))[0]

    def changes(self, when: str) -> list[str]:
        """What the union shows otherwise than before, in words."""
        shown = self.shown()
        return [] if shown == self.before else [f"{when} the union shows something else: {difference(shown, self.before)}"]

    def take(self) -> None:
        self.union.prepare_snapshot("one").take()


def refer(top: Path) -> Reference:
    """Take a snapshot as it is."""
    live = _Live(top)
    with injected(None) as found:
        live.take()
    after = live.shown()
    live.union.close()
    shutil.rmtree(top)
    return Reference(found.calls, after)


def try_fault(top: Path, fault: Fault) -> Outcome:
    """Take one with ``fault``; again without it, if there is none then; and mount again."""
    opened = descriptors()
    live = _Live(top)
    problems: list[str] = []
    with injected(fault) as found:
        number = number_of(live.take)
    problems += live.changes("after the fault")
    is_done = bool(live.snapshots.chain())
    if number and not is_done:
        again = number_of(live.take)
        if again:
            problems.append(f"without the fault it gives {os.strerror(again)}")
    problems += live.changes("without the fault")
    live.union.close()
    live.union = live.mounted()
    problems += live.changes("after the next mount")
    if [snapshot.about.name for snapshot in live.snapshots.all()] != ["one"]:
        problems.append("the snapshot is not there")
    if os.listdir(live.snapshots.directory) != ["1"]:
        problems.append(f"beside the snapshot there are {os.listdir(live.snapshots.directory)}")
    live.union.close()
    shutil.rmtree(top)
    if len(descriptors()) != len(opened):
        problems.append(f"descriptors left open: {descriptors()[len(opened) :]}")
    return Outcome(found.failed, number, is_done, problems)
